"""A review's labels while they are corrected, without a browser."""

from ray_app.labels.decided.page_files import compare
from ray_app.ui.corrections import draft as drafts
from tests.support.page_data import finding

TEXT = "배송 늦어요 그래도 핏 좋아요"
FOUND = [finding(TEXT, "배송", 1, "배송"), finding(TEXT, "핏", 1, "핏")]


def test_what_is_not_touched_is_confirmed() -> None:
    draft = drafts.of_findings("r1", TEXT, FOUND)
    assert draft.words() == ["배송", "늦어요", "그래도", "핏", "좋아요"]
    assert [each["action"] for each in compare(draft.old, draft.saved())] == ["confirm", "confirm"]


def test_labels_are_changed_removed_and_added_by_marking_words() -> None:
    draft = drafts.of_findings("r1", TEXT, FOUND)
    late = drafts.DraftLabel(keyword="배송", score=-1, origin=0, highlights=(0,), opinions=(1,))
    draft = draft.changed(0, late).without(1).added("만족도", 0)
    decided = compare(draft.old, draft.saved())
    assert [each["action"] for each in decided] == ["change", "remove", "add"]
    assert decided[0]["new"] == {"keyword": "배송", "score": -1, "highlights": ["배송"], "opinions": ["늦어요"]}
    assert draft.unused(["배송", "핏", "만족도"]) == ["핏"]
    assert draft.unused(["배송", "핏", "만족도"], besides=0) == ["배송", "핏"]


def test_an_earlier_decision_is_where_the_next_begins() -> None:
    draft = drafts.of_findings("r1", TEXT, FOUND)
    again = drafts.resumed(draft, [label for _, label in draft.changed(0, draft.labels[0]).without(1).saved()])
    assert [each["action"] for each in compare(again.old, again.saved())] == ["confirm", "remove"]
    assert again.labels == draft.labels[:1]

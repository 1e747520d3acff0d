"""Forms of one word have one key, other words another."""

import pytest

from ray_app.insights.lemmas import key


@pytest.mark.parametrize(
    "forms",
    [
        "늦어요 늦었어요 늦네요 늦고 늦어서 늦었는데",
        "예뻐요 예쁘고 예쁜데 예쁘네요 예뻤어요",
        "빨라요 빠르고 빨랐어요 빠르네요",
        "커요 크고 컸어요 크네요",
        "부드러워요 부드럽고 부드러웠어요",
        "불편해요 불편하고 불편해서 불편했어요 불편합니다 불편한데 불편해",
        "칙칙하고 칙칙해요 칙칙하네요",
        "사이즈 사이즈가 사이즈는",
        "배송 배송은 배송이 배송도",
    ],
)
def test_forms_of_a_word(forms: str) -> None:
    assert len({key(form) for form in forms.split()}) == 1


def test_other_words_and_other_writing() -> None:
    words = "늦어요 예뻐요 빨라요 커요 작아요 얇아요 두꺼워요 좋아요 배송 사이즈 가격 길이 기장".split()  # noqa: SIM905
    assert len({key(word) for word in words}) == len(words)
    assert key("Fast") == key("FAST") == "fast"
    assert key("") == ""
    assert key("요") == "요"
    assert key("늦어요") == key("늦어요")  # decomposed, as macOS writes it

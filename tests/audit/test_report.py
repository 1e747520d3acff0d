"""report: an audit as Markdown, in which review text and names stay text."""

import numpy as np
import pyarrow as pa

from ray_app.audit.confident_learning import LabelIssues
from ray_app.audit.report import Audited, markdown
from ray_app.audit.suspects import SUSPECTS, AuditResult, KeywordFigures, Suspect

KEYWORD = "핏*"
SUSPECT: Suspect = {
    "review_id": "a|b",
    "text": "작아요 | <script>\n## 제목",
    "keyword": KEYWORD,
    "kind": "missing",
    "given": None,
    "suggested": KEYWORD,
    "confidence": 0.9,
    "reason": "the model finds it with 0.90; evidence: 「_작아요_」",
    "evidence": "_작아요_",
}
FIGURES: KeywordFigures = {
    "keyword": KEYWORD,
    "support": 1,
    "flagged": 1,
    "missing": 1,
    "extra": 0,
    "score": 0,
    "rule": 0,
    "test_support": 0,
    "test_ratio": 0.0,
    "f1": 0.5,
    "low": 0.2,
    "high": 0.8,
    "few": True,
}
NO_ISSUES = LabelIssues(np.zeros(0, bool), np.zeros(0, np.float32))


def test_review_text_and_names_stay_text() -> None:
    result = AuditResult(
        suspects=pa.Table.from_pylist([SUSPECT], schema=SUSPECTS),
        rules=[],
        pairs=[],
        keywords=[FIGURES],
        keyword_issues=NO_ISSUES,
        score_issues=NO_ISSUES,
    )
    audited = Audited(labels="my_labels", reviews=1_000, test_reviews=0, model="base", folds=2)
    lines = markdown(result, audited).splitlines()
    assert lines[0] == "# Audit of my\\_labels"
    assert "### 핏\\*" in lines
    assert (
        "| a\\|b | 작아요 \\| &lt;script&gt; \\#\\# 제목 |  | 핏\\* | 0.90 | "
        "the model finds it with 0.90; evidence: 「\\_작아요\\_」 |"
    ) in lines

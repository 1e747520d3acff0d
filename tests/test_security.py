"""What SECURITY.md rests its answers on is there."""

import re

from tests.support.paths import ROOT


def test_the_files_it_names_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:tests|deploy)/[\w./*-]+)`", text)
    assert len(named) > 10
    for name in named:
        assert list(ROOT.glob(name)), name

"""Thresholds of one's own in place of a bundle's, as the page saves them and people write them.

In: a JSON file `{"bundle": "12 hex digits", "thresholds": {"배송": 0.4}}`, the thresholds alone, or the same as text,
which processes without the file are given. Out: a bundle with those thresholds; keywords left out keep its own.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ray_app import storage
from ray_app.data.text import composed
from ray_app.errors import UserError, check, closest
from ray_app.inference.bundle import Bundle, BundleMeta, BundleSummary

FLAG = "--thresholds"


def content(given: str) -> str:
    """What a file or a text of thresholds says, as JSON text that no longer needs the file; "" for none.

    Raises UserError naming the file where it is missing or holds no thresholds.
    """
    if not given.strip():
        return ""
    place, parsed = _parsed(given)
    named = parsed.get("thresholds", parsed)
    check(isinstance(named, dict) and named, f'{place}: no thresholds; write {{"thresholds": {{"배송": 0.4}}}}')
    for keyword, value in named.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        check(number and 0 <= value <= 1, f"{place}: {keyword}: {value!r:.40} is no threshold from 0 to 1")
    thresholds = {composed(keyword.strip()): float(value) for keyword, value in sorted(named.items())}
    bundle = parsed.get("bundle") if "thresholds" in parsed else None
    check(bundle is None or isinstance(bundle, str), f"{place}: bundle {bundle!r:.40} is no id of a bundle")
    made_for = {"bundle": bundle} if bundle else {}
    return json.dumps({**made_for, "thresholds": thresholds}, ensure_ascii=False)


def _place(given: str) -> str:
    """How an error names a file of thresholds, or the text itself, which begins like an object."""
    return FLAG if given.lstrip().startswith("{") else f"{FLAG} {given}"


def _parsed(given: str) -> tuple[str, dict[str, Any]]:
    """(How an error names it, the JSON object) of a file or of the text itself."""
    place = _place(given)
    try:
        parsed = json.loads(given) if place == FLAG else storage.read_json(given)
    except (ValueError, RecursionError):
        raise UserError(f"{place}: not JSON") from None
    if not isinstance(parsed, dict):
        raise UserError(f"{place}: not a JSON object of thresholds")
    return place, parsed


def applied(bundle: Bundle, given: str) -> Bundle:
    """The bundle with the thresholds in place of its own; the same one for "".

    Raises UserError at a keyword that the bundle does not have, or thresholds that were made for another bundle: they
    are cuts through its probabilities, which another model's are not.
    """
    text = content(given)
    if not text:
        return bundle
    parsed = json.loads(text)
    names, made_for = bundle.meta.taxonomy.names, parsed.get("bundle")
    place = _place(given)
    for keyword in parsed["thresholds"]:
        known = f"unknown keyword {keyword!r}{closest(keyword, names)}"
        check(keyword in names, f"{place}: {known}; bundle {bundle.id} has {', '.join(names[:20])}")
    check(
        made_for in (None, bundle.id),
        f"{place}: made for bundle {made_for}, this is {bundle.id}; move them again on its own report, or remove "
        "`bundle` from the file",
    )
    own = zip(names, bundle.meta.thresholds, strict=True)
    return replace(
        bundle, meta=replace(bundle.meta, thresholds=tuple(parsed["thresholds"].get(name, cut) for name, cut in own))
    )


def identity(bundle: Bundle, given: str) -> str:
    """Which findings the thresholds change: keyword and value where they differ from the bundle's own; "" for none."""
    own = named(bundle.meta)
    moved = {name: cut for name, cut in named(applied(bundle, given).meta).items() if cut != own[name]}
    return ",".join(f"{name}={cut:g}" for name, cut in moved.items())


def named(meta: BundleMeta) -> Mapping[str, float]:
    """Keyword -> its threshold."""
    return dict(zip(meta.taxonomy.names, map(float, meta.thresholds), strict=True))


def of_run(summary: BundleSummary, facts: Mapping[str, Any]) -> BundleSummary:
    """The bundle with the thresholds that a run used, where its `_run.json` (`facts`) tells them."""
    used = facts.get("thresholds")
    if not isinstance(used, dict) or set(used) != set(summary.taxonomy.names):
        return summary
    return replace(summary, thresholds=np.array([used[name] for name in summary.taxonomy.names], np.float32))

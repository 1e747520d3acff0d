"""The model card of a bundle: README.md for a model hub, outside the bundle's hashes.

In: a bundle, its address on the hub and, where there is one, the report of `jobs.evaluate`. Out: Markdown with the
front matter that hubs read.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import yaml

from ray_app.evaluation.metrics import FEW
from ray_app.evaluation.report import MEASURES, EvaluationReport
from ray_app.inference.bundle import CARD, Bundle
from ray_app.markdown import escape, look_up, number, table

if TYPE_CHECKING:
    from ray_app.data.taxonomy import Taxonomy

ON_A_HUB = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)  # of a base model; a hub refuses a card that names a folder
COLUMNS = ("precision", "recall", "f1", "support")


def card(bundle: Bundle, address: str, license_name: str, report: EvaluationReport | None) -> str:
    """The card. `report`: of this bundle; without it the card says that nothing was measured on reviews kept apart."""
    parts = [
        _front_matter(bundle, license_name),
        f"# {address.rpartition('/')[2]}",
        _what(bundle),
        *_use(address),
        *_quality(bundle, report),
        *_data(bundle, license_name),
        *_limits(bundle),
        *_own_notes(bundle),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(bundle: Bundle, license_name: str) -> str:
    """YAML between dashes: what a hub filters and links by."""
    base = str(bundle.meta.provenance.get("base_model", "")).removeprefix("hf://").partition("@")[0]
    facts: dict[str, object] = {
        "language": "ko",
        "library_name": "nunchi",
        "pipeline_tag": "text-classification",
        "tags": ["nunchi", "reviews", "aspect-based-sentiment-analysis"],
        **({"license": license_name} if license_name else {}),
        **({"base_model": base} if ON_A_HUB.fullmatch(base) else {}),
    }
    return f"---\n{yaml.safe_dump(facts, allow_unicode=True, sort_keys=False)}---"


def _what(bundle: Bundle) -> str:
    meta = bundle.meta
    words = ", ".join(escape(name) for name in meta.taxonomy.names)
    scale = ", ".join(map(str, meta.taxonomy.scores))
    return (
        f"A bundle of Nunchi, id `{bundle.id}`. It reads reviews of a shop and says which of "
        f"{len(meta.taxonomy.names)} keywords a review speaks of, how the customer feels about each ({scale}), and "
        "which words say so.\n\n"
        f"Keywords: {words}."
    )


def _use(address: str) -> Iterator[str]:
    yield "## How to use"
    yield (
        f"    python -m jobs.analyze --bundle {address} --input reviews.parquet --output analyses\n"
        f"    python -m jobs.serve --bundle {address}\n"
        f"    python -m jobs.train --base-model {address} --labels labels.parquet --output bundle"
    )
    yield (
        f"In Python: `from ray_app import Analyzer; Analyzer('{address}')(['옷은 예쁘지만 배송은 늦어요'])`. A "
        f"commit pins it: `{address.partition('@')[0]}@COMMIT`. Every file is compared with its hash before it is "
        "loaded, and no code of the repository is run."
    )


def _quality(bundle: Bundle, report: EvaluationReport | None) -> Iterator[str]:
    yield "## How good it is"
    if report is None:
        yield "It was not measured on reviews that it does not know. On the validation rows of its training:"
    else:
        left_out = report["left_out"]
        known = f"; {left_out} that it was trained on were left out" if left_out else ""
        unsure = "; some of them may have been among its training reviews" if left_out is None else ""
        yield f"On {report['reviews']:,} labeled reviews (`python -m jobs.evaluate`){known}{unsure}:"
        rows = [(title, number(look_up(report, path))) for title, path in MEASURES]
        yield "\n".join(table(("measure", "value"), [row for row in rows if row[1]]))
        yield "\n".join(table(("keyword", *COLUMNS, "in training"), _per_keyword(report)))
        return
    yield "\n".join(table(("model", "measure", "value"), list(_validated(bundle.meta.metrics))))
    support = [(escape(name), f"{bundle.meta.support.get(name, 0):,}") for name in bundle.meta.taxonomy.names]
    yield "\n".join(table(("keyword", "training reviews"), support))


def _per_keyword(report: EvaluationReport) -> list[tuple[str, ...]]:
    rows = report["keywords"]["per_keyword"]
    return [
        (escape(name), *(number(look_up(row, [column])) for column in COLUMNS), f"{row['support_train']:,}")
        for name, row in rows.items()
    ]


def _validated(metrics: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    """Figures between 0 and 1 of the best epoch of each model."""
    for model, figures in metrics.items():
        for name, value in figures.items() if isinstance(figures, Mapping) else ():
            if isinstance(value, float) and name not in ("loss", "rows_per_second"):
                yield escape(model), escape(name), f"{value:.3f}"


def _data(bundle: Bundle, license_name: str) -> Iterator[str]:
    """What it learned from, without a machine's own folders."""
    provenance, taxonomy = bundle.meta.provenance, bundle.meta.taxonomy
    facts = {
        "labels": _named(provenance.get("labels")),
        "training reviews": provenance.get("rows"),
        "hash of the labels": provenance.get("labels_sha256"),
        "base model": _named(provenance.get("base_model")),
        "commit of the base model": provenance.get("base_commit"),
        "taxonomy": f"{taxonomy.name}, {len(taxonomy.names)} keywords",
        "trained": provenance.get("trained"),
        "Nunchi": provenance.get("nunchi"),
    }
    yield "## Data and license"
    yield "\n".join(table(("", ""), [(name, escape(str(value))) for name, value in facts.items() if value]))
    said = f"License of these weights: {license_name}." if license_name else "Its maker names no license."
    yield (
        f"{said} The licenses of the base model and of the labels hold beside it. No review is in the bundle; "
        "`known_texts.safetensors` holds a hash of each training text, by which whoever has a text can tell whether it "
        "was among them."
    )


def _limits(bundle: Bundle) -> Iterator[str]:
    meta = bundle.meta
    yield "## Limits"
    lines = [
        f"It reads {meta.max_length} tokens of a review; what follows is not read.",
        "It knows its own keywords only, in the language and the kind of shop of its labels.",
        "A score is the model's reading of a text, not what a customer meant; irony is often missed.",
        *_rare(meta.taxonomy, meta.support),
    ]
    yield "\n".join(f"- {line}" for line in lines)


def _rare(taxonomy: "Taxonomy", support: Mapping[str, int]) -> Iterator[str]:
    rare = [escape(name) for name in taxonomy.names if support.get(name, 0) < FEW]
    if rare:
        yield f"Fewer than {FEW} training reviews had {_joined(rare)}: trust these least."


def _own_notes(bundle: Bundle) -> Iterator[str]:
    """The bundle's own README.md, where it has one."""
    path = bundle.path / CARD
    if path.is_file():
        yield "## Notes of its makers"
        text = path.read_text(encoding="utf-8", errors="replace")
        yield re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL).strip()


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names)


def _named(value: object) -> str:
    """A folder or file by its last name; other names as they are."""
    text = str(value or "")
    return os.path.basename(text.rstrip("/")) if text.startswith(("/", "~", ".", "file:")) else text

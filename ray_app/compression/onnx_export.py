"""A bundle's classifiers as ONNX, for programs that have no torch: whatever language has ONNX Runtime.

In: a bundle. Out: a folder with one or two models in fp32, `tokenizer.json`, `nunchi.json` (keywords, thresholds,
special tokens, prompt) and `run.py`, which analyzes with it. What the models answer is compared with torch before the
folder appears under its name.

    joint.onnx      ids, mask [reviews, length] -> keyword probabilities [reviews, keywords], score probabilities
                    [reviews, keywords, scores]
    keywords.onnx   ids, mask -> keyword probabilities
    scores.onnx     ids, mask -> score probabilities [reviews, keywords, scores], in the prompt form [prompts, scores]
"""

import json
import logging
import shutil
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ray_app.errors import UserError, check, first_line, pip_install
from ray_app.options import Options, option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from ray_app.engine.ragged import Sequences
    from ray_app.inference.runtime import BundleRuntime

TOGETHER = 16  # texts that are padded to one length
SMALL = 1_500_000_000  # bytes of a model that fit into one file
DIFFERENCE = 1e-5  # most that a probability may differ from torch's
LAST = "nunchi.json"  # written last: a folder that has it is whole
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class OnnxConfig(Options):
    """Options of `jobs.compress onnx`."""

    bundle: str = option("ready", "bundle to export", "Data", common=True)
    output: str = option("runs/onnx", "folder to write; must not exist", "Data", common=True)
    input: str = option("sample", "reviews on which it is compared with torch, as jobs.analyze reads them", "Data")
    columns: str = option("", "column names, where they are not recognized: text=NAME", "Data")
    reviews: int = option(64, "how many of them", "Data", least=2)


def run(config: OnnxConfig) -> float:
    """Exports, compares, writes; returns the largest difference. Raises UserError where the models differ from torch,
    or their encoder cannot be exported."""
    from ray_app import storage
    from ray_app.data import reviews
    from ray_app.inference import bundle as bundles
    from ray_app.inference.runtime import BundleRuntime

    _check_installed()
    check(storage.is_empty(config.output), f"--output {config.output}: already exists; remove it or name another")
    bundle = bundles.load(config.bundle)
    runtime = BundleRuntime(bundle, "cpu")
    texts = reviews.sampled_texts(config.input, config.columns, config.reviews)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        names = bundles.models_of(bundle.meta.score_form)
        worst = 0.0
        for name in names:
            log.info("%s: exporting", name)
            model = _probabilities(runtime, name)
            _export(model, _outputs(name), folder / f"{name}.onnx", f"bundle {config.bundle}: its {name}")
            worst = max(worst, _difference(model, runtime, name, folder, texts))
        (folder / "tokenizer.json").write_text(runtime.tokenizer.hf.backend_tokenizer.to_str(), encoding="utf-8")
        shutil.copyfile(Path(__file__).with_name("onnx_runner.py"), folder / "run.py")
        (folder / LAST).write_text(json.dumps(_told(runtime, names), ensure_ascii=False, indent=1), encoding="utf-8")
        check(
            worst <= DIFFERENCE,
            f"bundle {config.bundle}: its probabilities in ONNX differ from torch's by {worst:.2g}, more than "
            f"{DIFFERENCE:g}; nothing was written",
        )
        storage.upload(str(folder), config.output, last=LAST)
    print(
        f"bundle {bundle.id} as ONNX in {config.output}; largest difference of a probability from torch: {worst:.2g}\n"
        f"Next: pip install onnxruntime tokenizers numpy; echo REVIEW | python {config.output}/run.py"
    )
    return worst


def _check_installed() -> None:
    import importlib.util

    absent = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    check(not absent, f"onnx: {', '.join(absent)} not installed: {pip_install('onnx')}")


def _told(runtime: "BundleRuntime", names: "Sequence[str]") -> dict[str, Any]:
    """What a runner must know besides models and tokenizer."""
    meta, tokenizer = runtime.meta, runtime.tokenizer
    prompt = runtime.score_prompt if meta.score_form == "prompt" else None
    return {
        "bundle": runtime.bundle.id,
        "form": meta.score_form,
        "models": list(names),
        "keywords": list(meta.taxonomy.names),
        "scores": list(meta.taxonomy.scores),
        "thresholds": list(meta.thresholds),
        "max_length": meta.max_length,
        "prefix": tokenizer.prefix,
        "suffix": tokenizer.suffix,
        "special": sorted(tokenizer.special),
        "pad": tokenizer.pad_id,
        "head": prompt.head if prompt else [],
        "tails": prompt.tails if prompt else [],
        "alone": meta.batching == "alone",
    }


def _export(model: "nn.Module", outputs: "Sequence[str]", file: Path, place: str) -> None:
    """Writes one model. Raises UserError where torch cannot export its encoder."""
    import torch

    ids, mask = torch.full((2, 9), 5), torch.ones(2, 9, dtype=torch.long)  # sizes of 0 or 1 would be taken for fixed
    mask[1, 6:] = 0
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    heavy = sum(p.nbytes for p in model.parameters()) > SMALL
    with _quiet():
        try:
            torch.onnx.export(
                model,
                (ids, mask),
                str(file),
                input_names=["ids", "mask"],
                output_names=outputs,
                dynamic_shapes=(sizes, sizes),
                dynamo=True,
                external_data=heavy,
                verbose=False,
            )
        except Exception as error:  # whatever an encoder's code does that the exporter does not know
            raise UserError(f"{place} cannot be exported ({first_line(error)[:200]})") from None


@contextmanager
def _quiet() -> "Iterator[None]":
    """Without the exporter's warnings about itself."""
    exporter = logging.getLogger("torch.onnx")
    before = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(before)


def _outputs(name: str) -> list[str]:
    found, scores = "keyword_probabilities", "score_probabilities"
    return {"joint": [found, scores], "keywords": [found], "scores": [scores]}[name]


def _probabilities(runtime: "BundleRuntime", name: str) -> "nn.Module":
    """The model with probabilities behind its logits, and every text padded."""
    import torch

    from ray_app.compression import steps
    from ray_app.engine.prefix import prefix_of

    model = steps.load(runtime.bundle.path, runtime.meta, name).eval()
    check(prefix_of(model.encoder) is None, f"bundle {runtime.bundle.path}: a prefix cannot be exported to ONNX")
    model.encoder.set_attn_implementation("eager")
    scores = len(runtime.meta.taxonomy.scores)

    class Probabilities(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: "Tensor", mask: "Tensor") -> "tuple[Tensor, ...]":
            logits = cast("Tensor", self.model(ids, mask))
            if name == "keywords":
                return (logits.sigmoid(),)
            if not runtime.meta.attends:
                return (logits.softmax(-1),)
            grid = logits.view(len(logits), len(runtime.meta.taxonomy.names), -1)
            shares = grid[:, :, :scores].softmax(-1)
            return (grid[:, :, -1].sigmoid(), shares) if name == "joint" else (shares,)

    return Probabilities().eval()


def _difference(model: "nn.Module", runtime: "BundleRuntime", name: str, folder: Path, texts: "Sequence[str]") -> float:
    """The largest difference of a probability between torch, a text at a time, and the exported model, padded."""
    import onnxruntime
    import torch

    from ray_app.engine.batching import padded

    session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"))
    rows, pad_id, worst = _read(runtime, name, texts), runtime.tokenizer.pad_id, 0.0
    size = 1 if runtime.meta.batching == "alone" else TOGETHER
    for first in range(0, len(rows), size):
        part = rows.take(np.arange(first, min(first + size, len(rows))))
        ids, mask = padded(part, pad_id)
        answers = session.run(None, {"ids": ids.numpy(), "mask": mask.long().numpy()})
        for i in range(len(part)):
            own = torch.from_numpy(part.row(i))[None]
            with torch.inference_mode():
                wanted = model(own, torch.ones_like(own))
            worst = max(
                worst, *(float(np.abs(a[i] - b[0].numpy()).max()) for a, b in zip(answers, wanted, strict=True))
            )
    return worst


def _read(runtime: "BundleRuntime", name: str, texts: "Sequence[str]") -> "Sequences":
    """What a model reads of these texts: in the prompt form each with one keyword."""
    tokens, longest = runtime.tokenize(texts)[0].sequences, runtime.meta.max_length
    if name == "scores" and not runtime.meta.attends:
        return runtime.score_prompt(tokens, np.arange(len(tokens)) % len(runtime.meta.taxonomy.names), longest)
    return runtime.tokenizer.with_special_tokens(tokens, longest)

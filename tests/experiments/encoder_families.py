"""Which encoder families train, and whether a bundle answers as transformers does: a table for docs/families.md.

    python -m tests.experiments.encoder_families [NAME …]

Each family is a tiny random model: trained for one pass, sealed, asked about 19 odd texts at once, and compared with
transformers' own forward of each text by itself. Then two processes of one group train it for a step each.
"""

import contextlib
import io
import logging
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ray_app.data.taxonomy import load
from ray_app.engine.dry_pass import examine
from ray_app.engine.encoder import load_encoder
from ray_app.engine.keyword_attention import KeywordAttention, KeywordScorer
from ray_app.engine.tokenizer import Tokenizer
from ray_app.engine.unpadded import supports
from ray_app.errors import UserError
from ray_app.inference import bundle
from ray_app.inference.runtime import BundleRuntime
from ray_app.training.keyword_scores import keyword_score_task
from ray_app.training.loop import train_model
from ray_app.training.settings import Settings
from tests.support.families import FAMILIES, apart_from_transformers, save_family, train_family

EQUAL = 2e-4  # probabilities are kept rounded to 1e-4


class Case(NamedTuple):
    """A family, and what is unusual about this model of it."""

    family: str
    note: str = ""
    changes: dict[str, Any] = {}  # noqa: RUF012 (read, never changed)


CASES = (
    *(Case(family) for family in FAMILIES),
    Case("bert", "activation relu", {"hidden_act": "relu"}),
    Case("bert", "activation gelu_new", {"hidden_act": "gelu_new"}),
    Case("bert", "decoder", {"is_decoder": True}),
    Case("bert", "96 positions", {"max_position_embeddings": 96}),
    Case("roberta", "padding id is another token's", {"pad_token_id": 9}),
    Case("roberta", "64 positions", {"max_position_embeddings": 66}),
    Case("electra", "wide embeddings", {"embedding_size": 32}),
    Case("deberta-v2", "convolution", {"conv_kernel_size": 3, "conv_act": "gelu"}),
)


def result_of(case: Case) -> str:
    """`equal (flat)`, `equal (stock)`, `equal (one length at a time)`, `refused: …`, or what is wrong."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        base, output = Path(scratch) / "base", Path(scratch) / "bundle"
        save_family(case.family, base, **case.changes)
        try:
            train_family(base, output)
        except UserError as error:
            return f"refused: {str(error).replace(str(base), 'BASE')}"
        except Exception as error:
            return f"wrong: {type(error).__name__}: {error}"
        apart = apart_from_transformers(output)
        if apart > EQUAL:
            return f"wrong: {apart:.2g} apart"
        batching, model = bundle.load(str(output)).meta.batching, BundleRuntime(str(output)).keyword_model()
        if batching == "alone":
            return "equal (one length at a time)"
        return "equal (flat)" if batching == "auto" and supports(model) else "equal (stock)"


def two_workers(folder: Path, names: list[str]) -> list[str]:
    """Of each family, whether two workers train it and hold the same weights afterwards."""
    results = []
    for name in names:
        encoder, hf = load_encoder(str(folder / name))
        tokenizer, taxonomy = Tokenizer(hf), load()
        examine(encoder, tokenizer, 96, name)
        torch.manual_seed(0)
        model = KeywordScorer(encoder, KeywordAttention(len(taxonomy.names), 32, len(taxonomy.scores) + 1))
        table = _table()
        given = (table, table, taxonomy, tokenizer, 96)
        task = keyword_score_task(*given, balance=0.5, evidence=0.3, join=0.0, seed=0, finds=True)
        train_model(model, task, Settings(epochs=1, batch_size=8, learning_rate=1e-3), lambda *_: None, device="cpu")
        own = torch.cat([p.detach().flatten() for p in model.parameters()])
        theirs = own.clone()
        dist.broadcast(theirs, 0)
        results.append("trains" if torch.equal(own, theirs) else "wrong: two workers differ")
    return results


def _table() -> Any:
    from ray_app.labels import reader

    return reader.read_labels("sample", "default", "fail").split("train").slice(0, 24)


def _worker(rank: int, folder: str, names: list[str]) -> None:
    wait = timedelta(seconds=300)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=wait)
    results = two_workers(Path(folder), names)
    if not rank:
        (Path(folder) / "results").write_text("\n".join(results), encoding="utf-8")
    dist.destroy_process_group()


def main() -> None:
    """Prints the table."""
    logging.disable(logging.WARNING)
    chosen = [case for case in CASES if case.family in sys.argv[1:] or not sys.argv[1:]]
    results = {(case.family, case.note): result_of(case) for case in chosen}
    trained = sorted(name for (name, note), result in results.items() if result.startswith("equal") and not note)
    with tempfile.TemporaryDirectory() as folder:
        for name in trained:
            save_family(name, Path(folder) / name)
        mp.spawn(_worker, args=(folder, trained), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
        told = (Path(folder) / "results").read_text(encoding="utf-8").splitlines()
    two = dict(zip(trained, told, strict=True))
    print("| family | answers | two workers |\n| --- | --- | --- |")
    for (family, note), result in results.items():
        print(f"| {family}{f', {note}' if note else ''} | {result} | {'' if note else two.get(family, '')} |")
    kinds = [result.split(":")[0] for result in results.values()]
    print({kind: kinds.count(kind) for kind in np.unique(kinds).tolist()})


if __name__ == "__main__":
    main()

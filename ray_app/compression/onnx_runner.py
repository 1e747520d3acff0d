"""Analyzes reviews with an exported bundle: onnxruntime, tokenizers and numpy, without torch. A copy lies beside every
export as `run.py`; it is short so that it can be written again in another language.

    pip install onnxruntime tokenizers numpy
    echo 옷은 예쁘지만 배송은 늦어요 | python run.py

In: one review per line. Out: one line of JSON per review, its findings.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

BATCH = 16  # reviews that go through the model together, padded to the longest


class Bundle:
    """An exported folder: `nunchi.json`, `tokenizer.json` and one or two models."""

    def __init__(self, folder: Path) -> None:
        self.told: dict[str, Any] = json.loads((folder / "nunchi.json").read_text(encoding="utf-8"))
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True  # a review that says [MASK] says it as text
        self.models = {name: onnxruntime.InferenceSession(str(folder / f"{name}.onnx")) for name in self.told["models"]}

    def __call__(self, reviews: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Per review its findings."""
        tokens = [self.tokens(review) for review in reviews]
        rows = [self.framed(ids, [], []) for ids in tokens]
        found, grid = self.grids(rows)
        findings: list[list[dict[str, Any]]] = []
        for review, ids, probabilities, scores in zip(reviews, tokens, found, grid, strict=True):
            reached = np.round(probabilities, 4) >= np.float32(self.told["thresholds"])
            here = np.flatnonzero(reached & bool(review.strip()))  # a blank review says nothing
            own = self.prompted(ids, here) if self.told["form"] == "prompt" else scores[here]
            findings.append([self.finding(keyword, probabilities, row) for keyword, row in zip(here, own, strict=True)])
        return findings

    def tokens(self, review: str) -> list[int]:
        """Token ids without special tokens. Where a piece of the text is one by name, its letters are read."""
        special, encoding = set(self.told["special"]), self.tokenizer.encode(review, add_special_tokens=False)
        ids: list[int] = []
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token not in special:
                ids.append(token)
                continue
            for letter in review[start:end]:
                own = self.tokenizer.encode(letter, add_special_tokens=False).ids
                ids += [one for one in own if one not in special]
        return ids

    def framed(self, ids: list[int], head: list[int], tail: list[int]) -> list[int]:
        """What a model reads: the review cut to fit, special tokens around it, and a prompt's two parts."""
        front, back = self.told["prefix"] + head, tail + self.told["suffix"]
        return [*front, *ids[: max(self.told["max_length"] - len(front) - len(back), 0)], *back]

    def grids(self, rows: list[list[int]]) -> tuple[list[Any], list[Any]]:
        """Per review [keywords] probabilities and, unless scores are prompted for, [keywords, scores]."""
        first = list(self.run(self.told["models"][0], rows))
        found = [outputs[0] for outputs in first]
        if self.told["form"] == "joint":
            return found, [outputs[1] for outputs in first]
        if self.told["form"] == "attention":
            return found, [outputs[0] for outputs in self.run("scores", rows)]
        return found, found

    def prompted(self, ids: list[int], keywords: Any) -> list[Any]:
        """[scores] per keyword, from one prompt each."""
        rows = [self.framed(ids, self.told["head"], self.told["tails"][keyword]) for keyword in keywords]
        return [outputs[0] for outputs in self.run("scores", rows)]

    def run(self, name: str, rows: list[list[int]]) -> Iterator[list[Any]]:
        """Per row its outputs. An encoder that padding changes reads one row at a time."""
        size = 1 if self.told["alone"] else BATCH
        for first in range(0, len(rows), size):
            part = rows[first : first + size]
            ids = np.full((len(part), max(map(len, part))), self.told["pad"], np.int64)
            mask = np.zeros_like(ids)
            for i, row in enumerate(part):
                ids[i, : len(row)], mask[i, : len(row)] = row, 1
            outputs = self.models[name].run(None, {"ids": ids, "mask": mask})
            yield from (list(row) for row in zip(*outputs, strict=True))

    def finding(self, keyword: Any, probabilities: Any, scores: Any) -> dict[str, Any]:
        """One keyword as a row says it."""
        return {
            "keyword": self.told["keywords"][keyword],
            "probability": round(float(probabilities[keyword]), 4),
            "score": self.told["scores"][int(np.round(scores, 4).argmax())],
            "score_probabilities": [round(float(share), 4) for share in scores],
        }


if __name__ == "__main__":
    analyze = Bundle(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
    for review, findings in zip(lines := [line.rstrip("\n") for line in sys.stdin], analyze(lines), strict=True):
        print(json.dumps({"text": review, "findings": findings}, ensure_ascii=False))

"""Training against the Hugging Face Trainer: `python -m tests.experiments.training_speed`.

The keyword classifier, one pass over the same reviews with the same batch size, learning rate and number of steps, in
turns; random weights in a known shape. Prints reviews per second of both, and the losses of one batch from the same
weights. (`pip install accelerate`.)
"""

import argparse
import json
import logging
import tempfile
import time

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from ray_app.benchmark.random_bundle import SHAPES
from ray_app.engine.encoder import STARTER, EncoderClassifier
from ray_app.engine.tokenizer import Tokenizer
from ray_app.labels import reader
from ray_app.labels.matrices import keyword_matrix
from ray_app.training.classifier_task import keyword_task
from ray_app.training.loop import train_model
from ray_app.training.settings import Settings

BATCH = 32


class Rows(torch.utils.data.Dataset[dict[str, object]]):
    """Token ids and targets as the Trainer reads them."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, table: pa.Table, targets: np.ndarray) -> None:
        self.ids = tokenizer(table["text"].to_pylist(), truncation=True, max_length=256)["input_ids"]
        self.targets = targets.astype(np.float32)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> dict[str, object]:
        return {"input_ids": self.ids[i], "labels": self.targets[i]}


class WithLoss(nn.Module):
    """The same model as the Trainer wants it."""

    def __init__(self, model: EncoderClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor) -> dict[str, object]:
        """The mean over rows of the summed loss."""
        logits = self.model(input_ids, attention_mask)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / len(labels)
        return {"loss": loss, "logits": logits}


def fresh(shape: str, vocabulary: int) -> EncoderClassifier:
    """The same random weights every time."""
    torch.manual_seed(0)
    layers, hidden, inner, heads = SHAPES[shape]
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
    )
    return EncoderClassifier(BertModel(config, add_pooling_layer=False), 15)


def main() -> None:
    """Prints a line of JSON per round, then medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", default="sample")
    parser.add_argument("--shape", default="starter", choices=tuple(SHAPES))
    parser.add_argument("--reviews", type=int, default=1_280)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    labels = reader.read_labels(given.labels)
    table = labels.split("train").slice(0, given.reviews)
    hf = AutoTokenizer.from_pretrained(STARTER)
    task = keyword_task(table, table.slice(0, 8), labels.taxonomy, Tokenizer(hf), 256)
    rows = Rows(hf, table, keyword_matrix(table, labels.taxonomy))
    settings = Settings(epochs=1, batch_size=BATCH, learning_rate=1e-4, keep_last=True, patience=0)

    def ours() -> float:
        model = fresh(given.shape, len(hf))
        began = time.perf_counter()
        train_model(model, task, settings, lambda *_: None)
        return len(table) / (time.perf_counter() - began)

    def trainer() -> float:
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=BATCH,
                num_train_epochs=1,
                learning_rate=1e-4,
                weight_decay=settings.weight_decay,
                save_strategy="no",
                report_to=[],
                use_cpu=not torch.cuda.is_available(),
                disable_tqdm=True,
                logging_strategy="no",
            )
            model = WithLoss(fresh(given.shape, len(hf)))
            made = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(hf))
            began = time.perf_counter()
            made.train()
            return len(table) / (time.perf_counter() - began)

    some = np.arange(BATCH)
    model = fresh(given.shape, len(hf)).eval()
    batch = DataCollatorWithPadding(hf)([rows[int(i)] for i in some])
    with torch.no_grad():
        losses = [
            float(task.loss(model, some, torch.device("cpu"))) / BATCH,
            float(WithLoss(model)(batch["input_ids"], batch["attention_mask"], batch["labels"])["loss"]),
        ]
    print(json.dumps({"losses": losses}), flush=True)
    speeds = []
    for _ in range(given.rounds):
        speeds.append((ours(), trainer()))
        print(json.dumps({"ours": round(speeds[-1][0], 1), "trainer": round(speeds[-1][1], 1)}), flush=True)
    one, other = np.median(np.array(speeds), axis=0)
    print(
        json.dumps(
            {
                "reviews": len(table),
                "ours": round(one, 1),
                "trainer": round(other, 1),
                "ratio": round(float(np.median([a / b for a, b in speeds])), 2),
            }
        )
    )


if __name__ == "__main__":
    main()

"""Virtual tokens behind the first one of every text, whatever the tokenizer puts around a text."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import AutoTokenizer
from transformers import PreTrainedTokenizerFast as FastTokenizer

from ray_app.engine.tokenizer import Tokenizer
from ray_app.errors import UserError
from ray_app.inference.sealing import save_tokenizer
from ray_app.training.tuning.virtual_tokens import VirtualWords, with_virtual_tokens
from tests.support.bundles import ODD_TEXTS, hf_tokenizer


def byte_tokenizer(processor: Any) -> Any:
    """As RoBERTa's and its kin: bytes, with spaces cut off offsets."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", "<pad>", "<mask>", *alphabet])}
    raw = RawTokenizer(BPE(vocabulary, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.post_processor = processor
    names = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>"}
    return FastTokenizer(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", **names)


def around(before: str) -> Any:
    return processors.TemplateProcessing(single=f"{before} $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])


KINDS = {
    "WordPiece": lambda: hf_tokenizer("bert"),
    "Metaspace": lambda: hf_tokenizer("roberta"),
    "RoBERTa's": lambda: byte_tokenizer(processors.RobertaProcessing(("</s>", 1), ("<s>", 0), True, False)),
    "BERT's": lambda: byte_tokenizer(processors.BertProcessing(("</s>", 1), ("<s>", 0))),
    "two steps": lambda: byte_tokenizer(processors.Sequence([processors.ByteLevel(trim_offsets=True), around("<s>")])),
    "two before": lambda: byte_tokenizer(around("<s> <s>")),
}


@pytest.mark.parametrize("name", KINDS)
def test_they_stand_behind_the_first_token_and_nothing_else_changes(name: str, tmp_path: Path) -> None:
    base = KINDS[name]()
    before, rows = Tokenizer(base), len(base)
    made = with_virtual_tokens(base, rows, 3, "here")
    save_tokenizer(made, tmp_path)
    for found in (Tokenizer(made), Tokenizer.load(tmp_path)):
        assert found.prefix == [before.prefix[0], rows, rows + 1, rows + 2, *before.prefix[1:]]
        assert found.suffix == before.suffix
        assert (found.mask_id, found.pad_id) == (before.mask_id, before.pad_id)
        one, other = found(ODD_TEXTS), before(ODD_TEXTS)
        assert one.sequences.ids.tolist() == other.sequences.ids.tolist()
        assert (one.start.tolist(), one.end.tolist()) == (other.start.tolist(), other.end.tolist())
        assert found.max_review_tokens(64) == before.max_review_tokens(64) - 3
        assert not set(found([f"#{rows} [{rows}] {rows}"]).sequences.ids.tolist()) & {rows, rows + 1, rows + 2}
    text = ODD_TEXTS[0]
    wrapped = found.with_special_tokens(found([text]).sequences, 64).ids.tolist()
    assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == wrapped  # as whoever reads it without us


def test_more_of_them_stand_before_those_of_an_earlier_tuning() -> None:
    base = hf_tokenizer("bert")
    twice = with_virtual_tokens(with_virtual_tokens(base, len(base), 2, "here"), len(base) + 2, 1, "here")
    assert Tokenizer(twice).prefix[1:] == [len(base) + 2, len(base), len(base) + 1]


def test_a_tokenizer_without_a_first_token_is_refused() -> None:
    with pytest.raises(UserError, match=r"^here: its tokenizer puts no token before a text, behind which"):
        with_virtual_tokens(byte_tokenizer(processors.ByteLevel()), 300, 3, "here")


@pytest.mark.parametrize("inner", [0, 7])
def test_their_rows_follow_those_of_the_words(inner: int) -> None:
    words = torch.nn.Embedding(10, 4, padding_idx=1)
    virtual = VirtualWords(words, torch.randn(2, 4), inner)
    with torch.no_grad():
        for parameter in virtual.parameters():
            parameter.add_(0.1)
    ids = torch.tensor([[0, 10, 11, 9, 1]])
    assert torch.equal(virtual(ids), virtual.plain()(ids))
    assert virtual.plain().padding_idx == 1
    assert torch.equal(virtual(ids)[0, 3], words.weight[9])

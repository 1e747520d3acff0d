"""Virtual tokens: rows of the embedding that no text can name, which every text is read with.

In: a tokenizer and an encoder. Out: the tokenizer, which puts them behind its first token; the encoder with rows for
them, at last as plain rows of its vocabulary, so that whoever reads the bundle needs to know nothing of them. Behind
the first token: that one is what many classifiers read.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ray_app.engine.tokenizer import Tokenizer
from ray_app.errors import check

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

ADDERS = ("TemplateProcessing", "BertProcessing", "RobertaProcessing")  # that put special tokens around a text
PROBE = "가 a 1."


class VirtualWords(nn.Module):
    """An embedding of `words`, which stays as it is, and of virtual tokens behind its last row.

    With `inner` (p-tuning) their rows are made by a network, whose last layer starts at zero: each is its own row at
    first (Razdaibiedina et al. 2023, arXiv:2305.03937).
    """

    def __init__(self, words: nn.Embedding, rows: Tensor, inner: int = 0) -> None:
        super().__init__()
        self.words, self.rows = words, nn.Parameter(rows.clone())
        self.network: nn.Module | None = None
        if inner:
            last = nn.Linear(inner, rows.shape[1])
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.network = nn.Sequential(nn.Linear(rows.shape[1], inner), nn.GELU(), last)

    def made(self) -> Tensor:
        """[virtual tokens, width] their rows."""
        return self.rows if self.network is None else self.rows + self.network(self.rows)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids of any shape [...] -> [..., width]."""
        first = self.words.num_embeddings
        made = F.embedding((ids - first).clamp_min(0), self.made())
        return torch.where(
            (ids >= first)[..., None], made.to(self.words.weight.dtype), self.words(ids.clamp_max(first - 1))
        )

    def plain(self) -> nn.Embedding:
        """The same as one embedding."""
        return lengthened(self.words, self.made().detach())


def lengthened(words: nn.Embedding, rows: Tensor) -> nn.Embedding:
    """An embedding with more rows at its end."""
    weight = torch.cat([words.weight.detach(), rows.to(words.weight)])
    return nn.Embedding(len(weight), weight.shape[1], padding_idx=words.padding_idx, _weight=weight)


def set_words(encoder: "PreTrainedModel", words: nn.Module) -> None:
    """Puts an embedding in place of the encoder's, which says how many rows it has."""
    encoder.set_input_embeddings(words)
    if isinstance(words, nn.Embedding):
        encoder.config.vocab_size = words.num_embeddings


def first_rows(encoder: "PreTrainedModel", tokenizer: Tokenizer, texts: Sequence[str], count: int) -> Tensor:
    """[count, width] what virtual tokens start from: the rows of the words of `texts`, again and again."""
    words: nn.Embedding = encoder.get_input_embeddings()
    ids = torch.from_numpy(tokenizer(texts).sequences.ids)
    return words.weight.detach()[ids.repeat(count // max(1, len(ids)) + 1)[:count].to(words.weight.device)]


def with_virtual_tokens(hf: "PreTrainedTokenizerFast", first: int, count: int, place: str) -> "PreTrainedTokenizerFast":
    """The tokenizer with tokens `first` .. `first + count - 1` behind the first one of every text. They are in no
    vocabulary, so that no text can hold one. Raises UserError where the tokenizer has no first token."""
    from tokenizers import Tokenizer as RawTokenizer
    from transformers import PreTrainedTokenizerFast

    before = Tokenizer(hf)
    check(
        bool(before.prefix), f"{place}: its tokenizer puts no token before a text, behind which virtual ones could be"
    )
    state: dict[str, Any] = json.loads(hf.backend_tokenizer.to_str())
    prefix = [before.prefix[0], *range(first, first + count), *before.prefix[1:]]
    state["post_processor"] = _around(state["post_processor"], prefix, before.suffix)
    special = {name: str(token) for name, token in hf.special_tokens_map.items() if name != "additional_special_tokens"}
    made = PreTrainedTokenizerFast(tokenizer_object=RawTokenizer.from_str(json.dumps(state)), **special)
    after = Tokenizer(made)
    texts = (PROBE, f" {PROBE} ", "옷은  예쁘지만\n배송은 늦어요")
    same = all(
        (old.sequences.ids.tolist(), old.start.tolist(), old.end.tolist())
        == (new.sequences.ids.tolist(), new.start.tolist(), new.end.tolist())
        for old, new in ((before([text]), after([text])) for text in texts)
    )
    told = (after.prefix, after.suffix) == (prefix, before.suffix)
    check(same and told, f"{place}: virtual tokens cannot be put into its tokenizer; write another --tune")
    return cast("PreTrainedTokenizerFast", made)


def _around(processor: dict[str, Any] | None, prefix: Sequence[int], suffix: Sequence[int]) -> dict[str, Any]:
    """A post-processor with these tokens around a text, and whatever the given one does besides."""
    steps = (
        processor["processors"] if processor and processor["type"] == "Sequence" else [processor] if processor else []
    )
    kept = [step for step in steps if step["type"] not in ADDERS]
    for step in steps:
        if step["type"] == "RobertaProcessing":  # it also cuts the spaces off offsets
            options = {name: step[name] for name in ("add_prefix_space", "trim_offsets")}
            kept.append({"type": "ByteLevel", **options, "use_regex": True})
    text = {"Sequence": {"id": "A", "type_id": 0}}
    single = [*map(_piece, prefix), text, *map(_piece, suffix)]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 0}}, *map(_piece, suffix)]
    names = {str(token): {"id": str(token), "ids": [token], "tokens": [f"#{token}"]} for token in {*prefix, *suffix}}
    template = {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": names}
    return {"type": "Sequence", "processors": [*kept, template]} if kept else template


def _piece(token: int) -> dict[str, Any]:
    return {"SpecialToken": {"id": str(token), "type_id": 0}}

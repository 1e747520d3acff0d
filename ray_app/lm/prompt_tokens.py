"""The tokens of prompts and completions: special tokens where a template writes them, and nowhere else.

In: texts in pieces that are in turn the template's own and what fills its fields (`Template.prompt_parts`). Out: token
ids. Whoever writes `</s>` or `<|im_end|>` in a review writes letters, which end nothing.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ray_app.engine.tokenizer import Tokenizer
from ray_app.errors import check

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from ray_app.lm.templates import Template

Text = str | Sequence[str]  # plain text; or pieces, of which the first, third, … are a template's own
_MARK = re.compile(r"<\|[^|<>\s]+\|>|</?s>")  # what looks like a special token
_FIRST, _NEVER = '"prepend_scheme":"first"', '"prepend_scheme":"never"'


class PromptTokenizer:
    """Call it with n texts to get their ids, without the tokens that the tokenizer puts around a text.

    A template's special tokens are found as transformers finds them; what lies between two is encoded in one go.
    `virtual`: ids of a model's virtual tokens, see virtual_tokens.py.
    """

    def __init__(self, hf: "PreTrainedTokenizerFast", virtual: Sequence[int] = ()) -> None:
        self.hf, self.tokenizer, self.virtual = hf, Tokenizer(hf), list(virtual)
        added = {i: token for i, token in hf.added_tokens_decoder.items() if token.special}
        self.ids: dict[str, int] = dict(zip(hf.all_special_tokens, hf.all_special_ids, strict=True))
        self.ids |= {str(token): i for i, token in added.items()}
        patterns = []
        for name in sorted(filter(None, self.ids), key=len, reverse=True):
            token = added.get(self.ids[name])
            before, after = (r"\s*" if token and getattr(token, side) else "" for side in ("lstrip", "rstrip"))
            patterns.append(f"{before}{re.escape(name)}{after}")
        self.pattern = re.compile("|".join(patterns) or r"(?!)")

    def __call__(self, texts: Iterable[Text]) -> list[list[int]]:
        runs = [self._runs(text) for text in texts]
        first = self.tokenizer.plain([str(row[0]) for row in runs])
        behind = iter(self._behind.plain([run for row in runs for run in row[1:] if isinstance(run, str)]))
        return [
            list(ids) + [token for run in row[1:] for token in ([run] if isinstance(run, int) else next(behind)[0])]
            for row, (ids, _) in zip(runs, first, strict=True)
        ]

    def prompts(self, texts: Iterable[Text]) -> list[list[int]]:
        """The tokens that generation starts from: the tokenizer's own first ones, unless the template writes them, the
        virtual ones, then the prompt."""
        prefix, first = self.tokenizer.prefix, [*self.tokenizer.prefix, *self.virtual]
        return [[*first, *(ids[len(prefix) :] if ids[: len(prefix)] == prefix else ids)] for ids in self(texts)]

    @property
    def kept(self) -> int:
        """How many of a prompt's first tokens stay when it is cut."""
        return len(self.tokenizer.prefix) + len(self.virtual) if self.virtual else 0

    def own(self, text: str) -> list[int]:
        """The ids of a text of the template."""
        return self([[text]])[0] if text.strip() else []

    def named_in(self, text: str) -> dict[str, int]:
        """The special tokens that a text of the template writes: name -> id."""
        return {name: self.ids[name] for name in (found.strip() for found in self.pattern.findall(text))}

    def shown(self, text: Sequence[str], keep: str = "") -> str:
        """A text as a model's answer shows it, without the template's special tokens but those within `keep`."""
        kept = self.named_in(keep)
        own = [self.pattern.sub(lambda found: found[0] if found[0].strip() in kept else "", one) for one in text[::2]]
        return "".join(piece for pair in zip(own, [*text[1::2], ""], strict=True) for piece in pair)

    def check(self, template: "Template") -> str:
        """What looks like a special token in a template and is none of this model's, as a warning; "" for nothing.

        Raises UserError where a template's labels hold special tokens: they are read back from plain text.
        """
        place = f"template {template.name!r}"
        inner = self.named_in(f"{template.label} {template.evidence}")
        check(
            not inner,
            f"{place}: {', '.join(inner)} in label or evidence: write special tokens in prompt and completion alone",
        )
        texts = (*template.own_pieces, template.stop, template.answer_after)
        known = self.hf.get_vocab()
        odd = dict.fromkeys(mark for text in texts for mark in _MARK.findall(text) if mark not in known)
        return f"{place}: {', '.join(odd)}: no token of this model, so read letter by letter" if odd else ""

    def _runs(self, text: Text) -> list[str | int]:
        """Plain texts, and between them the ids of special tokens."""
        runs: list[str | int] = []
        plain = ""
        for number, piece in enumerate([text] if isinstance(text, str) else text):
            at = 0
            for found in self.pattern.finditer(piece) if number % 2 == 0 and not isinstance(text, str) else ():
                runs += [plain + piece[at : found.start()], self.ids[found[0].strip()]]
                plain, at = "", found.end()
            plain += piece[at:]
        return [*runs, plain.rstrip(" ") if self.tokenizer.own_space else plain]

    @cached_property
    def _behind(self) -> Tokenizer:
        """The tokenizer of texts behind a special token: one that puts a space before a text alone puts none there."""
        from tokenizers import Tokenizer as RawTokenizer
        from transformers import PreTrainedTokenizerFast

        state = self.hf.backend_tokenizer.to_str()
        if _FIRST not in state:
            return self.tokenizer
        names = {name: str(token) for name, token in self.hf.special_tokens_map.items() if isinstance(token, str)}
        raw = RawTokenizer.from_str(state.replace(_FIRST, _NEVER))
        return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=raw, **names))

"""Constrained decoding of the review task: an automaton over bytes that says which tokens may come next.

    label (`,` ` `? label)* end        label: any keyword of the taxonomy with any of its scores, no keyword twice

One space may stand before it all, and a second, as Llama's tokenizer writes every text.

In: labels as a template writes them, and what each token spells. Out: per state, the ids that are allowed. Because it
reads bytes, any tokenizer will do: tokens may hold half a syllable, or the end of a label and the start of the next.
What it lets through always parses, and always fits: a token is allowed only if the rest can be finished with the tokens
that are left.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ray_app.arrays import Ints
from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import UserError, check
from ray_app.lm.templates import Template
from ray_app.lm.token_bytes import TokenBytes

FAR = 1 << 20  # more tokens than any text has
START, GAP, LABEL = 0, 1, 2  # before a label: two spaces may come, one, none


class State(NamedTuple):
    """Keywords said, as bits, and the node of the label under way."""

    said: int = 0
    node: int = START


@dataclass(frozen=True)
class Steps:
    """The tokens that spell a way on from a node: ids, where each leads, and which keywords it ends on the way."""

    ids: Ints
    nodes: Ints
    ends: tuple[int, ...]  # bits: keywords whose label is over, with a comma after it


class Grammar:
    """The automaton of a template's labels for one tokenizer.

    Args:
        labels: text of a label -> the position of its keyword.
        pieces: what each token spells.
        ends: ids that end a text.

    Raises UserError where the tokenizer cannot spell a single label.
    """

    def __init__(self, labels: Mapping[str, int], pieces: TokenBytes, ends: Iterable[int]) -> None:
        self.ends = np.array(sorted(set(ends)), np.int64)
        check(len(self.ends), "constrained decoding needs a token that ends a text; write --decoding free")
        self.children: list[dict[int, int]] = [{}, {}, {}]
        self.keyword: list[int] = [-1, -1, -1]  # of a label that is complete at this node
        self.keywords = max(labels.values()) + 1
        for text, keyword in labels.items():
            self._add(text.encode(), keyword)
        for node in (GAP, START):
            self.children[node] = {**self.children[LABEL], ord(" "): node + 1}
        self.vocabulary = _trie(pieces, set(b", ".join(text.encode() for text in labels)))
        self.steps: dict[int, Steps] = {}
        self._allowed = lru_cache(maxsize=4_096)(self._find_allowed)  # states are many, those in use at a time few
        check(self.shortest < FAR, "its tokenizer cannot spell any label of the taxonomy; write --decoding free")

    @cached_property
    def shortest(self) -> int:
        """The fewest tokens of a whole text, its end included."""
        return int(self._left(0, np.array([START]))[0])

    def allowed(self, state: State, room: int) -> Ints:
        """Token ids that may follow in a state, when `room` tokens are left and at least one of them fits."""
        ids, left = self._allowed(state)
        return ids[left < room]

    def after(self, state: State, token: int) -> State | None:
        """The state after a token that `allowed` named; None where the token ended the text."""
        steps = self._steps(state.node)
        at = np.flatnonzero(steps.ids == token)
        return State(state.said | steps.ends[at[0]], int(steps.nodes[at[0]])) if len(at) else None

    def _add(self, text: bytes, keyword: int) -> None:
        node = LABEL
        for byte in text:
            if byte not in self.children[node]:
                self.children[node][byte] = len(self.children)
                self.children.append({})
                self.keyword.append(-1)
            node = self.children[node][byte]
        check(self.keyword[node] in (-1, keyword), f"{text.decode()!r} is the label of two keywords")
        self.keyword[node] = keyword

    def _find_allowed(self, state: State) -> tuple[Ints, Ints]:
        """Ids that a way to the end goes through, and the fewest tokens that follow each."""
        steps = self._steps(state.node)
        left = np.full(len(steps.ids), FAR, np.int64)
        for ends in set(steps.ends):
            if not ends & state.said:
                chosen = np.array([other == ends for other in steps.ends], bool)
                left[chosen] = self._left(state.said | ends, steps.nodes[chosen])
        ways = left < FAR
        final = self.ends if self._complete(state) else self.ends[:0]
        return np.append(steps.ids[ways], final), np.append(left[ways], np.zeros(len(final), np.int64))

    def _complete(self, state: State) -> bool:
        keyword = self.keyword[state.node]
        return keyword >= 0 and not state.said >> keyword & 1

    def _left(self, said: int, nodes: Ints) -> Ints:
        """[nodes] the fewest tokens to the end of the text, by way of the label under way; FAR or more: no way."""
        fresh = [k for k in range(self.keywords) if not said >> k & 1]
        found: Ints = self.distance[nodes][:, fresh].min(1, initial=FAR) + 1
        return found

    @cached_property
    def distance(self) -> NDArray[np.int64]:
        """[nodes, keywords] the fewest tokens that spell the rest of a label of that keyword, and no more."""
        found = np.full((len(self.children), self.keywords), FAR, np.int64)
        for node in reversed(range(len(self.children))):  # children come after their parents
            steps = self._steps(node)
            inside = np.array([not ends for ends in steps.ends], bool)
            if inside.any():
                found[node] = np.minimum(1 + found[steps.nodes[inside]].min(0), FAR)
            if self.keyword[node] >= 0:
                found[node, self.keyword[node]] = 0
        return found

    def _steps(self, node: int) -> Steps:
        if node not in self.steps:
            found = sorted(self._walk(self.vocabulary, node, 0))
            self.steps[node] = Steps(
                np.array([token for token, _, _ in found], np.int64),
                np.array([to for _, to, _ in found], np.int64),
                tuple(ends for _, _, ends in found),
            )
        return self.steps[node]

    def _walk(self, tokens: "_Trie", node: int, ends: int) -> list[tuple[int, int, int]]:
        """(token, node it leads to, keywords it ends) for every token below `tokens`, both tries side by side."""
        found = [(token, node, ends) for token in tokens.ids]
        for byte, below in tokens.below.items():
            if byte in self.children[node]:
                found += self._walk(below, self.children[node][byte], ends)
            elif byte == ord(",") and self.keyword[node] >= 0 and not ends >> self.keyword[node] & 1:
                found += self._walk(below, GAP, ends | 1 << self.keyword[node])
        return found


class _Trie:
    """Tokens by what they spell: the ids that end here, and what follows by the next byte."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.below: dict[int, _Trie] = {}


def _trie(pieces: TokenBytes, alphabet: set[int]) -> _Trie:
    """The tokens that spell something, all of it in the alphabet."""
    root = _Trie()
    for i in range(len(pieces)):
        if not pieces[i] or not alphabet.issuperset(pieces[i]):
            continue
        at = root
        for byte in pieces[i]:
            at = at.below.setdefault(byte, _Trie())
        at.ids.append(i)
    return root


def grammar_for(template: Template, taxonomy: Taxonomy, pieces: TokenBytes, ends: Iterable[int]) -> Grammar:
    """The grammar of a template's answers. A token that begins a new line ends a text as well: models that were never
    tuned know no other end."""
    labels: dict[str, int] = {}
    for k, keyword in enumerate(taxonomy.names):
        for score in taxonomy.scores:
            text = template.label.format(keyword=keyword, score=score)
            check(labels.setdefault(text, k) == k, f"template {template.name!r}: {text!r} is the label of two keywords")
    lines = [i for i in range(len(pieces)) if pieces[i].startswith(b"\n")]
    try:
        return Grammar(labels, pieces, [*ends, *lines])
    except UserError as error:
        raise UserError(f"template {template.name!r}: {error}") from None

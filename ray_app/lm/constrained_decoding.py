"""Constrained decoding of the review task: an automaton over bytes that lists the tokens allowed next.

    label (`,` ` `? label)* end        label: any keyword of the taxonomy with any of its scores, no keyword twice

One space may precede the whole text, or two, as Llama's tokenizer writes every text with a space of its own.

In: labels as a template writes them, and what each token spells. Out: per state, the ids that are allowed. Because it
reads bytes, it works with any tokenizer: a token may hold half a syllable, or the end of one label and the start of the
next. Its output always parses and always fits: a token is allowed only if the text can be finished with the tokens that
are left.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from ray_app.arrays import Ints
from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import UserError, check
from ray_app.lm.templates import Template
from ray_app.lm.token_bytes import TokenBytes

UNREACHABLE = 1 << 20  # more tokens than any text has
START, GAP, LABEL = 0, 1, 2  # nodes before a label: up to two more spaces may come, one, none


class State(NamedTuple):
    """The keywords written so far, as bits, and the node reached within the current label."""

    written: int = 0
    node: int = START


@dataclass(frozen=True)
class Steps:
    """The tokens that can follow at a node: their ids, the node each leads to, and the keywords it completes."""

    ids: Ints
    nodes: Ints
    completes: tuple[int, ...]  # bits: keywords whose label ends within the token, with a comma after it


class Grammar:
    """The automaton of a template's labels for one tokenizer.

    Args:
        labels: text of a label -> the position of its keyword.
        pieces: what each token spells.
        ends: ids that end a text.
    Raises: UserError where the tokenizer cannot spell a single label.
    """

    def __init__(self, labels: Mapping[str, int], pieces: TokenBytes, ends: Iterable[int]) -> None:
        self.ends = np.array(sorted(set(ends)), np.int64)
        check(len(self.ends), "constrained decoding needs a token that ends a text; write --decoding free")
        self.children: list[dict[int, int]] = [{}, {}, {}]  # of each node: next byte -> node
        self.keyword: list[int] = [-1, -1, -1]  # of each node: the keyword whose label is complete there, or -1
        self.keywords = max(labels.values()) + 1
        for text, keyword in labels.items():
            self._add(text.encode(), keyword)
        for node in (GAP, START):
            self.children[node] = {**self.children[LABEL], ord(" "): node + 1}
        self.vocabulary = _trie(pieces, set(b", ".join(text.encode() for text in labels)))
        self.steps: dict[int, Steps] = {}
        self._allowed = lru_cache(maxsize=4_096)(self._find_allowed)  # there are many states, few in use at a time
        spellable = self.shortest < UNREACHABLE
        check(spellable, "its tokenizer cannot spell any label of the taxonomy; write --decoding free")

    @cached_property
    def shortest(self) -> int:
        """The fewest tokens of a whole text, including its end."""
        return int(self._tokens_left(0, np.array([START]))[0])

    def allowed(self, state: State, room: int) -> Ints:
        """Token ids that may follow in a state with `room` tokens left; empty where `room` is too small to finish."""
        ids, left = self._allowed(state)
        return ids[left < room]

    def after(self, state: State, token: int) -> State | None:
        """The state after one of the `allowed` tokens; None where the token ended the text."""
        steps = self._steps(state.node)
        at = np.flatnonzero(steps.ids == token)
        return State(state.written | steps.completes[at[0]], int(steps.nodes[at[0]])) if len(at) else None

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
        """Ids from which the text can be finished, and the fewest tokens that must follow each."""
        steps = self._steps(state.node)
        left = np.full(len(steps.ids), UNREACHABLE, np.int64)
        for completes in set(steps.completes):
            if not completes & state.written:
                same = np.array([other == completes for other in steps.completes], bool)
                left[same] = self._tokens_left(state.written | completes, steps.nodes[same])
        reachable = left < UNREACHABLE
        final = self.ends if self._complete(state) else self.ends[:0]
        return np.append(steps.ids[reachable], final), np.append(left[reachable], np.zeros(len(final), np.int64))

    def _complete(self, state: State) -> bool:
        keyword = self.keyword[state.node]
        return keyword >= 0 and not state.written >> keyword & 1

    def _tokens_left(self, written: int, nodes: Ints) -> Ints:
        """[nodes] the fewest tokens that finish the current label and the text; UNREACHABLE or more where none do."""
        fresh = [k for k in range(self.keywords) if not written >> k & 1]
        tokens: Ints = self.distance[nodes][:, fresh].min(1, initial=UNREACHABLE) + 1
        return tokens

    @cached_property
    def distance(self) -> Ints:
        """[nodes, keywords] the fewest tokens that spell exactly the rest of a label of that keyword."""
        distance = np.full((len(self.children), self.keywords), UNREACHABLE, np.int64)
        for node in reversed(range(len(self.children))):  # children come after their parents
            steps = self._steps(node)
            inside = np.array([not completes for completes in steps.completes], bool)
            if inside.any():
                distance[node] = np.minimum(1 + distance[steps.nodes[inside]].min(0), UNREACHABLE)
            if self.keyword[node] >= 0:
                distance[node, self.keyword[node]] = 0
        return distance

    def _steps(self, node: int) -> Steps:
        if node not in self.steps:
            walked = sorted(self._walk(self.vocabulary, node, 0))
            self.steps[node] = Steps(
                np.array([token for token, _, _ in walked], np.int64),
                np.array([to for _, to, _ in walked], np.int64),
                tuple(completes for _, _, completes in walked),
            )
        return self.steps[node]

    def _walk(self, tokens: "_Trie", node: int, completes: int) -> list[tuple[int, int, int]]:
        """(token, node it leads to, keywords it completes) of every token below `tokens`, walking both tries."""
        walked = [(token, node, completes) for token in tokens.ids]
        for byte, below in tokens.below.items():
            if byte in self.children[node]:
                walked += self._walk(below, self.children[node][byte], completes)
            elif byte == ord(",") and self.keyword[node] >= 0 and not completes >> self.keyword[node] & 1:
                walked += self._walk(below, GAP, completes | 1 << self.keyword[node])
        return walked


class _Trie:
    """Tokens by what they spell: the ids that end at this node, and the child for each next byte."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.below: dict[int, _Trie] = {}


def _trie(pieces: TokenBytes, alphabet: set[int]) -> _Trie:
    """The tokens that spell one byte or more, all of them in the alphabet."""
    root = _Trie()
    for i in range(len(pieces)):
        if not pieces[i] or not alphabet.issuperset(pieces[i]):
            continue
        node = root
        for byte in pieces[i]:
            node = node.below.setdefault(byte, _Trie())
        node.ids.append(i)
    return root


def grammar_for(template: Template, taxonomy: Taxonomy, pieces: TokenBytes, ends: Iterable[int]) -> Grammar:
    """The grammar of a template's answers.

    A token that begins a new line ends a text too: models that were never tuned on the task know no other end.
    Raises UserError where two keywords share a label, or the tokenizer cannot spell a single one.
    """
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

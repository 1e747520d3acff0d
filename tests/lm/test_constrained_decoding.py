"""constrained_decoding: with any tokenizer, whatever is chosen among the allowed tokens parses and fits."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from ray_app.data import taxonomy
from ray_app.data.taxonomy import Keyword, Taxonomy
from ray_app.errors import UserError
from ray_app.lm import constrained_decoding, templates
from ray_app.lm.constrained_decoding import Grammar, State
from ray_app.lm.token_bytes import TokenBytes
from tests.support.bundles import hf_tokenizer
from tests.support.language_models import KINDS, lm_tokenizer

REVIEW = templates.load("review")
SHIPPED = taxonomy.load()
ENDS = {kind: [int(lm_tokenizer(kind).eos_token_id)] for kind in KINDS}


def made(kind: str, known: Taxonomy = SHIPPED) -> Grammar:
    return constrained_decoding.grammar_for(REVIEW, known, TokenBytes(lm_tokenizer(kind)), ENDS[kind])


GRAMMARS = {kind: made(kind) for kind in KINDS}


def walk(automaton: Grammar, kind: str, room: int, seed: int) -> str:
    """The text of a model that chooses among the allowed at random; checks that it takes at most `room` tokens."""
    choose, written, state = random.Random(seed).choice, list[int](), State()
    while True:
        token = int(choose(automaton.allowed(state, room - len(written))))
        after = automaton.after(state, token)
        if after is None:
            assert len(written) < room
            return TokenBytes(lm_tokenizer(kind)).spelled(written).decode()
        written, state = [*written, token], after


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), extra=st.integers(0, 80))
def test_whatever_is_chosen_among_the_allowed_parses_and_fits(kind: str, seed: int, extra: int) -> None:
    text = walk(GRAMMARS[kind], kind, GRAMMARS[kind].shortest + extra, seed)
    parsed = REVIEW.parse(text, SHIPPED)
    assert parsed.scores
    assert not parsed.bad
    assert text.replace(" ", "") == ",".join(f"{k}{s}" for k, s in parsed.scores.items())


@pytest.mark.parametrize("kind", KINDS)
def test_every_label_can_be_written_as_the_tokenizer_writes_it(kind: str) -> None:
    """What a tuned model has learned to write is allowed token by token, from start to end."""
    tokenizer, automaton = lm_tokenizer(kind), GRAMMARS[kind]
    text = ", ".join(f"{name}{score}" for name, score in zip(SHIPPED.names, [-2, -1, 0, 1, 2] * 3, strict=True))
    ids = tokenizer(" " + text, add_special_tokens=False)["input_ids"]
    state: State | None = State()
    for i, token in enumerate([*ids, ENDS[kind][0]]):
        assert state is not None
        assert token in automaton.allowed(state, 10_000), (i, TokenBytes(tokenizer)[token])
        state = automaton.after(state, token)
    assert state is None


def test_a_token_may_end_one_label_and_begin_the_next() -> None:
    pieces, automaton = TokenBytes(lm_tokenizer("straddling")), GRAMMARS["straddling"]
    state = State()
    for byte in " 배송".encode():
        state = automaton.after(state, pieces.bytes.index(bytes([byte]))) or state
    crossing = [i for i in automaton.allowed(state, 100) if b", " in pieces[i] and len(pieces[i]) > 4]
    assert crossing
    after = automaton.after(state, crossing[0])
    assert after is not None
    assert after.written == 1 << SHIPPED.index["배송"]
    for token in automaton.allowed(
        state, 2
    ):  # room for the end alone: the token completes a label, this one or the next
        assert ENDS["straddling"][0] in automaton.allowed(automaton.after(state, token) or state, 1)


def test_a_keyword_is_not_written_twice_and_the_end_comes_after_all() -> None:
    known = Taxonomy(name="t", keywords=(Keyword(name="배송"), Keyword(name="핏")), scores=(-1, 1))
    automaton = made("byte-level", known)
    texts = {walk(automaton, "byte-level", 99, i) for i in range(300)}
    parsed = [REVIEW.parse(text, known) for text in texts]
    assert not any(p.bad for p in parsed)
    assert {tuple(p.scores) for p in parsed} == {("배송",), ("핏",), ("배송", "핏"), ("핏", "배송")}
    assert {score for p in parsed for score in p.scores.values()} == {-1, 1}


def test_scores_of_two_digits_and_keywords_that_begin_alike() -> None:
    known = Taxonomy(name="t", keywords=(Keyword(name="맛"), Keyword(name="맛집")), scores=(-10, -1, 1, 10))
    automaton = made("fallback", known)
    pairs = set()
    for i in range(400):
        parsed = REVIEW.parse(walk(automaton, "fallback", 60, i), known)
        assert not parsed.bad
        pairs |= set(parsed.scores.items())
    assert pairs == {(name, score) for name in known.names for score in known.scores}


def test_a_keyword_that_the_tokenizer_cannot_spell_is_never_begun() -> None:
    known = Taxonomy(name="t", keywords=(Keyword(name="배송"), Keyword(name="배뷁")), scores=(1, 2))
    automaton = made("unigram", known)
    texts = [walk(automaton, "unigram", 99, i) for i in range(50)]
    assert {text.strip() for text in texts} <= {"배송1", "배송2"}
    with pytest.raises(UserError, match=r"'review'.* cannot spell any label.*--decoding free"):
        made("unigram", Taxonomy(name="t", keywords=(Keyword(name="뷁"),), scores=(1, 2)))


def test_two_keywords_with_one_label_are_refused() -> None:
    with pytest.raises(UserError, match="'맛11' is the label of two keywords"):
        made("byte-level", Taxonomy(name="t", keywords=(Keyword(name="맛"), Keyword(name="맛1")), scores=(1, 11)))


def test_no_token_that_ends_a_text_is_refused() -> None:
    with pytest.raises(UserError, match="a token that ends a text"):
        Grammar({"배송1": 0}, TokenBytes(lm_tokenizer("unigram")), [])


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_spell_what_the_tokenizer_read(kind: str) -> None:
    tokenizer = lm_tokenizer(kind)
    text = "배송이 빨라요, 핏1\t좋아요" if kind != "unigram" else "배송이 빨라요, 핏1"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert TokenBytes(tokenizer).spelled([*ids, tokenizer.eos_token_id]).decode().removeprefix(" ") == text
    assert TokenBytes(tokenizer)[len(tokenizer) + 5] == b""


def test_added_tokens_spell_themselves_and_word_pieces_are_refused() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=lm_tokenizer("byte-level")._tokenizer, eos_token="</s>")
    tokenizer.add_tokens(["배송"])
    assert TokenBytes(tokenizer).spelled(tokenizer("배송1")["input_ids"]).decode() == "배송1"
    with pytest.raises(UserError, match="WordPiece"):
        TokenBytes(hf_tokenizer("bert"))

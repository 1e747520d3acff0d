"""generation: a batch writes what a plain loop writes for each prompt alone, greedy, sampled or constrained."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_app.data import taxonomy
from ray_app.errors import UserError
from ray_app.lm import constrained_decoding, templates
from ray_app.lm.generation import Decoding, Generation, Generator
from ray_app.lm.token_bytes import TokenBytes
from tests.support.language_models import KINDS, lm_texts, lm_tokenizer, tiny_lm

REVIEW, SHIPPED = templates.load("review"), taxonomy.load()
FAMILIES = ("gpt2", "llama")
SHORT = Decoding(max_new_tokens=24)
SAMPLED = Decoding(max_new_tokens=24, temperature=1.5, top_p=0.9, seed=3)


def prompts(kind: str, count: int = 9) -> list[list[int]]:
    """Of several lengths, from three tokens up."""
    ids = [lm_tokenizer(kind)(text, add_special_tokens=False)["input_ids"] for text in lm_texts(count)]
    return [row[: 3 + 7 * i] for i, row in enumerate(ids)]


def generator(kind: str = "unigram", family: str = "gpt2", batch_tokens: int = 8_192) -> Generator:
    return Generator(tiny_lm(kind, family), lm_tokenizer(kind), batch_tokens)


def grammar(kind: str, made: Generator) -> constrained_decoding.Grammar:
    return constrained_decoding.grammar_for(REVIEW, SHIPPED, TokenBytes(lm_tokenizer(kind)), made.ends)


def plain_loop(model: Any, prompt: list[int], ends: set[int], count: int) -> list[int]:
    """One token at a time by a whole forward pass, without cache, padding or batch."""
    written: list[int] = []
    while len(written) < count:
        with torch.no_grad():
            token = int(model(torch.tensor([prompt + written]), use_cache=False).logits[0, -1].argmax())
        if token in ends:
            break
        written.append(token)
    return written


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_batches_write_what_a_plain_loop_writes(family: str) -> None:
    made, given_prompts = generator(family=family), prompts("unigram")
    expected = [plain_loop(tiny_lm("unigram", family), prompt, made.ends, 24) for prompt in given_prompts]
    written = made(given_prompts, SHORT)
    assert [row.text for row in written] == [made.pieces.spelled(ids).decode() for ids in expected]
    assert [row.tokens for row in written] == list(map(len, expected))
    assert len({row.text for row in written}) > 5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("decoding", [SHORT, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("constrained", [False, True])
def test_batched_equals_one_by_one(family: str, decoding: Decoding, constrained: bool) -> None:
    made, given_prompts = generator(family=family), prompts("unigram")
    allowed = grammar("unigram", made) if constrained else None
    together = made(given_prompts, decoding, allowed)
    alone = [made([prompt], decoding, allowed, rows=[i])[0] for i, prompt in enumerate(given_prompts)]
    in_threes = generator(family=family, batch_tokens=3 * 60)(given_prompts[::-1], decoding, allowed, range(8, -1, -1))
    assert together == alone == in_threes[::-1]


def test_sampling_depends_on_the_seed_alone() -> None:
    made, given_prompts = generator(), prompts("unigram", 4)
    first, again = (made(given_prompts, SAMPLED) for _ in range(2))
    other = made(
        given_prompts, Decoding(max_new_tokens=24, temperature=SAMPLED.temperature, top_p=SAMPLED.top_p, seed=4)
    )
    assert first == again != other
    assert first != made(given_prompts, SHORT)


def test_samples_are_drawn_by_the_models_probabilities() -> None:
    made, prompt = generator(), prompts("unigram", 1)[0]
    with torch.no_grad():
        logits = tiny_lm()(torch.tensor([prompt])).logits[0, -1] / 0.7
    best = int(logits.argmax())
    share = float(logits.softmax(0)[best])
    drawn = made([prompt] * 600, Decoding(max_new_tokens=1, temperature=0.7))
    hits = sum(row.text == made.pieces[best].decode() for row in drawn) / 600
    assert 0.1 < share < 0.95
    assert hits == pytest.approx(share, abs=0.07)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1_000), room=st.integers(0, 60), temperature=st.sampled_from([0.0, 3.0]))
def test_constrained_output_of_a_random_model_always_parses(
    kind: str, seed: int, room: int, temperature: float
) -> None:
    made = Generator(tiny_lm(kind, seed=seed), lm_tokenizer(kind))
    allowed = grammar(kind, made)
    decoding = Decoding(max_new_tokens=allowed.shortest + room, temperature=temperature, seed=seed)
    for row in made(prompts(kind), decoding, allowed):
        parsed = REVIEW.parse(row.text, SHIPPED)
        assert parsed.scores
        assert not parsed.bad


def test_it_stops_at_a_text_whatever_its_tokens() -> None:
    made, given_prompts = generator(), prompts("unigram")
    free = made(given_prompts, SHORT)
    whole = max((row.text for row in free), key=len)
    stop = whole[len(whole) // 2 :][:3]
    stopped = made(given_prompts, Decoding(max_new_tokens=24, stop=stop))
    assert [row.text for row in stopped] == [row.text.partition(stop)[0] for row in free]
    assert sum(row.tokens for row in stopped) < sum(row.tokens for row in free)
    alone = [made([prompt], Decoding(max_new_tokens=24, stop=stop))[0] for prompt in given_prompts]
    assert stopped == alone


def test_nothing_in_nothing_out_and_an_empty_text_is_an_answer() -> None:
    made, prompt = generator(), prompts("unigram", 1)[0]
    assert made([], SHORT) == []
    first = plain_loop(tiny_lm(), prompt, made.ends, 1)[0]
    made.ends |= {first}
    assert made([prompt], SHORT) == [Generation("", 0)]


def test_a_models_own_sampling_defaults_are_ignored() -> None:
    model = tiny_lm(seed=9)
    model.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=3.0, max_new_tokens=2)
    made = Generator(model, lm_tokenizer("unigram"))
    row = prompts("unigram", 2)[1]
    assert made([row], SHORT)[0].text == made.pieces.spelled(plain_loop(model, row, made.ends, 24)).decode()


def test_mistakes_are_named() -> None:
    made = generator()
    with pytest.raises(UserError, match=r"--max-new-tokens 1: too few .* takes \d+ tokens"):
        made(prompts("unigram"), Decoding(max_new_tokens=1), grammar("unigram", made))
    with pytest.raises(UserError, match="without a single token"):
        made([[]], SHORT)

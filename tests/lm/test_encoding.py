"""Prompts and completions as token ids: cut, padded, packed."""

from hypothesis import given
from hypothesis import strategies as st

from ray_app.lm.encoding import cut_prompt, encode
from tests.lm.test_next_token import PROMPTS, TAIL, encoded
from tests.support.language_models import lm_tokenizer


def test_a_prompt_is_the_same_tokens_without_its_completion() -> None:
    rows, alone = encoded(), encode(lm_tokenizer("unigram"), PROMPTS, [""] * len(PROMPTS), 256)
    for i in range(len(PROMPTS)):
        front = alone.sequences.row(i)[:-1].tolist()
        assert rows.sequences.row(i)[: len(front)].tolist() == front
        assert rows.begin[i] == len(front)


def test_long_rows_keep_the_prompts_frame_and_lose_the_answers_end() -> None:
    tokenizer = lm_tokenizer("unigram")
    long = [f"###입력: {'배송이 느려요 ' * 40} \n###출력:", "짧은 질문"]
    rows = encode(tokenizer, [*long, *long], [" 배송-1"] * 2 + [" 네 그렇습니다" * 40] * 2, 32, TAIL)
    assert rows.cut == 3
    assert rows.sequences.lengths.max() == 32
    assert rows.terms.min() >= 1
    first = tokenizer.decode(rows.sequences.row(0))
    assert first.startswith("<s> ###입력: 배송이")
    assert first.split("###출력:")[1].split() == ["배송-1</s>"]
    assert rows.sequences.row(0)[-1] == tokenizer.eos_token_id
    assert rows.sequences.row(2)[-1] != tokenizer.eos_token_id
    assert rows.begin[2] == 16


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(0, 25), st.integers(1, 25))
def test_a_cut_prompt_is_its_beginning_and_its_end(ids: list[int], tail: int, room: int) -> None:
    found = cut_prompt(ids, min(tail, len(ids)), room)
    assert len(found) == min(len(ids), room)
    kept = min(tail, room - 1) if len(ids) > room else 0
    assert found[len(found) - kept :] == ids[len(ids) - kept :]
    assert found[: len(found) - kept] == ids[: len(found) - kept]

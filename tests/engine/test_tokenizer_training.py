"""Tokenizers trained on texts, and a teacher's that is reduced."""

import re
from typing import Any

import numpy as np
import pytest

from ray_app.engine.tokenizer_training import PROMPT_PIECES, SPECIALS, shrink_tokenizer, train_tokenizer
from ray_app.errors import UserError
from ray_app.inference.bundle import SCORE_PROMPT
from tests.support import bundles

TEXTS = bundles.sample_texts(300)


@pytest.fixture(scope="module")
def teacher() -> Any:
    return train_tokenizer(bundles.sample_texts(600), 3_000)


@pytest.fixture(scope="module")
def cut(teacher: Any) -> tuple[Any, Any]:
    return shrink_tokenizer(teacher, TEXTS, 2_000)


def test_a_trained_tokenizer_keeps_its_size_and_its_special_tokens() -> None:
    tokenizer = train_tokenizer(TEXTS, 1_000)
    assert len(tokenizer) <= 1_000
    for role, token in SPECIALS.items():
        assert getattr(tokenizer, role) == token
    assert tokenizer.convert_ids_to_tokens(tokenizer("옷")["input_ids"])[0] == "<s>"
    assert tokenizer.convert_ids_to_tokens(tokenizer("옷")["input_ids"])[-1] == "</s>"
    assert tokenizer.is_fast


def test_training_again_gives_the_same_ids() -> None:
    """Workers and both classifiers of one bundle each train their own: ids must agree."""
    specs = {train_tokenizer(TEXTS, 1_000).backend_tokenizer.to_str() for _ in range(3)}
    assert len(specs) == 1


def test_a_trained_tokenizer_gives_the_texts_back() -> None:
    tokenizer = train_tokenizer(TEXTS, 1_000)
    plain = [text for text in TEXTS if re.fullmatch(r"[가-힣 .,!?]+", text) and "  " not in text]
    assert len(plain) > 50
    for text in plain:
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_a_cut_tokenizer_leads_each_piece_back_to_the_teacher(teacher: Any, cut: tuple[Any, Any]) -> None:
    student, ids = cut
    assert len(ids) == len(student)
    old = teacher.convert_ids_to_tokens([int(i) for i in ids if i >= 0])
    new = student.convert_ids_to_tokens([i for i in range(len(ids)) if ids[i] >= 0])
    assert old == new
    assert np.flatnonzero(ids < 0).tolist() == [student.convert_tokens_to_ids(piece) for piece in PROMPT_PIECES]
    assert len(student) < len(teacher)
    for role in SPECIALS:
        assert getattr(student, role) == getattr(teacher, role)


def test_a_cut_tokenizer_reads_every_text_with_no_new_unknown(teacher: Any, cut: tuple[Any, Any]) -> None:
    student, _ = cut
    for text in TEXTS:
        for tokenizer in (teacher, student):
            assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]
        assert student.decode(student(text)["input_ids"], skip_special_tokens=True) == teacher.decode(
            teacher(text)["input_ids"], skip_special_tokens=True
        )


def test_a_cut_tokenizer_has_no_more_pieces_than_asked_where_characters_allow(teacher: Any) -> None:
    student, _ = shrink_tokenizer(teacher, TEXTS, 1_900)
    assert len(student) == 1_900


def test_the_prompt_frame_costs_one_token_a_piece(cut: tuple[Any, Any]) -> None:
    student, _ = cut
    pieces = student.tokenize(SCORE_PROMPT.format(review="옷", keyword="배송").replace("\n", ""))
    assert pieces[0] == "▁###입력:"
    assert "▁###키워드:" in pieces


def test_a_teacher_of_another_family_is_refused() -> None:
    with pytest.raises(UserError, match="Unigram"):
        shrink_tokenizer(bundles.hf_tokenizer("bert"), TEXTS, 500)

"""Token ids, prompts and words of tokens against transformers' own tokenization of the whole text."""

from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast as FastTokenizer

from ray_app.data.taxonomy import load
from ray_app.data.text import words
from ray_app.engine.tokenizer import ScorePrompt, Tokenizer, word_of_token
from ray_app.inference.bundle import SCORE_PROMPT
from ray_app.sample import written_reviews
from tests.support import bundles

KINDS = ("bert", "roberta", "byte-level")
TEXTS = [row["text"] for row in written_reviews()]
NAMES = load().names


def hf_of(kind: str) -> Any:
    """The fakes' tokenizers, and a byte-level BPE that puts the space before a word into the word."""
    if kind != "byte-level":
        return bundles.hf_tokenizer(kind)
    raw = RawTokenizer(BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        TEXTS[:100],
        BpeTrainer(
            vocab_size=800, special_tokens=["<s>", "<pad>", "</s>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    raw.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return FastTokenizer(tokenizer_object=raw, pad_token="<pad>")


@pytest.fixture(scope="module", params=KINDS)
def hf(request: pytest.FixtureRequest) -> Any:
    return hf_of(request.param)


@pytest.mark.parametrize("max_length", [8, 512])
def test_plain_equals_tokenizing_the_whole_text(hf: Any, max_length: int) -> None:
    tokenizer = Tokenizer(hf)
    rows = tokenizer.with_special_tokens(tokenizer(TEXTS).sequences, max_length)
    for i, text in enumerate(TEXTS):
        assert rows.row(i).tolist() == hf(text, truncation=True, max_length=max_length)["input_ids"]


def test_a_score_prompt_equals_tokenizing_it_as_one_string(hf: Any) -> None:
    tokenizer = Tokenizer(hf)
    keyword = np.arange(len(TEXTS)) % len(NAMES)
    rows = ScorePrompt(tokenizer, NAMES, SCORE_PROMPT)(tokenizer(TEXTS).sequences, keyword, 512)
    for i, text in enumerate(TEXTS):
        whole = SCORE_PROMPT.format(review=text, keyword=NAMES[keyword[i]])
        assert rows.row(i).tolist() == hf(whole)["input_ids"]


def test_a_long_review_is_cut_but_the_keyword_stays(hf: Any) -> None:
    tokenizer = Tokenizer(hf)
    prompt = ScorePrompt(tokenizer, NAMES, SCORE_PROMPT)
    long = tokenizer(["좋아요 " * 100]).sequences
    for keyword in range(len(NAMES)):
        row = prompt(long, np.array([keyword]), 80).row(0).tolist()
        end = [*prompt.tails[keyword], *tokenizer.suffix]
        assert len(row) == 80
        assert row[-len(end) :] == end
        start = [*tokenizer.prefix, *prompt.head]
        assert row[: len(start)] == start
        assert row[len(start) : -len(end)] == long.row(0)[: 80 - len(start) - len(end)].tolist()


def test_cut_keeps_the_first_tokens_and_their_spans() -> None:
    tokens = Tokenizer(bundles.hf_tokenizer("bert"))(["옷은 예쁘지만 배송은 늦어요", "굿"])
    cut = tokens.cut(2)
    assert cut.sequences.lengths.tolist() == [2, 1]
    assert cut.sequences.row(0).tolist() == tokens.sequences.row(0)[:2].tolist()
    second = tokens.sequences.offsets[1]
    assert cut.end.tolist() == [*tokens.end[:2], tokens.end[second]]
    assert cut.start.tolist() == [*tokens.start[:2], tokens.start[second]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_belongs_to_the_word_whose_text_it_is(kind: str) -> None:
    texts = [*bundles.ODD_TEXTS, *TEXTS[:50], ""]
    tokens = Tokenizer(hf_of(kind))(texts)
    spans = words(texts)
    word = word_of_token(tokens, spans)
    for i, text in enumerate(texts):
        seen: dict[int, str] = {}
        for at in range(*tokens.sequences.offsets[i : i + 2]):
            start, end = int(tokens.start[at]), int(tokens.end[at])
            if text[start:end].strip():
                first, last = spans[i][word[at]]
                assert first < end <= last
                seen[int(word[at])] = text
        assert len(seen) == len(spans[i])


def test_a_lone_space_token_belongs_to_the_word_after_it() -> None:
    tokens = Tokenizer(bundles.hf_tokenizer("roberta"))(["가 힣힣 😀"])
    pieces = bundles.hf_tokenizer("roberta").convert_ids_to_tokens(tokens.sequences.ids.tolist())
    word = word_of_token(tokens, words(["가 힣힣 😀"])).tolist()
    lone = [i for i, piece in enumerate(pieces) if piece == "▁" and i]
    assert lone
    assert all(word[i] == word[i + 1] == word[i - 1] + 1 for i in lone)


def test_a_text_without_words_has_tokens_of_no_word() -> None:
    tokens = Tokenizer(bundles.hf_tokenizer("roberta"))(["   ", "옷"])
    word = word_of_token(tokens, words(["   ", "옷"]))
    first = tokens.sequences.offsets[1]
    assert set(word[:first]) <= {-1}
    assert set(word[first:]) == {0}


def test_a_tokenizer_comes_back_from_its_folder(hf: Any, tmp_path: Any) -> None:
    hf.save_pretrained(tmp_path)
    kept, loaded = Tokenizer(hf), Tokenizer.load(tmp_path)
    assert loaded(TEXTS[:20]).sequences.ids.tolist() == kept(TEXTS[:20]).sequences.ids.tolist()
    assert (loaded.prefix, loaded.suffix, loaded.mask_id) == (kept.prefix, kept.suffix, kept.mask_id)
    assert loaded.pad_id == kept.pad_id == hf.pad_token_id
    assert loaded.max_review_tokens(64) == 62


SPECIALS = ("<s>", "</s>", "<pad>", "<unk>", "<mask>", "[MASK]", "[CLS]", "[SEP]", "[PAD]", "<|endoftext|>")


def test_the_names_of_special_tokens_in_a_review_are_text(hf: Any) -> None:
    tokenizer = Tokenizer(hf)
    special = set(hf.all_special_ids) - {hf.unk_token_id}
    texts = [f"배송이 {name} 빨라요{name}" for name in SPECIALS] + ["".join(SPECIALS)]
    hf("가", add_special_tokens=False)  # transformers' own calls set back how names are read
    for text in texts:
        tokens = tokenizer([text])
        assert special.isdisjoint(tokens.sequences.ids.tolist())
        assert special.isdisjoint(tokenizer.encode_fragment(text))
        assert len(tokens.sequences.ids) > len(tokenizer(["배송이 빨라요"]).sequences.ids)
        assert max(tokens.end) <= len(text)
    rows = tokenizer.with_special_tokens(tokenizer(texts).sequences, 512)
    assert all(rows.row(i).tolist()[-1:] == tokenizer.suffix for i in range(len(texts)))


def test_special_tokens_among_the_pieces_of_a_vocabulary_are_spelled(hf: Any) -> None:
    tokenizer = Tokenizer(hf)
    letter = int(tokenizer(["배"]).sequences.ids[-1])
    tokenizer.special = frozenset({letter})  # as where a Unigram vocabulary holds `<s>` with the best score
    tokens = tokenizer(["배", "색"])
    assert letter not in tokens.sequences.ids
    assert len(tokens.sequences.row(1))

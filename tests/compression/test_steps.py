from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Raw
from tokenizers import models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ray_app.compression import steps
from ray_app.compression.vocabulary import cut_tokenizer
from ray_app.engine.linear import has_int8
from ray_app.engine.tokenizer import Tokenizer
from ray_app.errors import UserError
from ray_app.inference import bundle as bundles
from ray_app.inference.analyzer import Analyzer
from ray_app.training.tuning.virtual_tokens import with_virtual_tokens
from tests.support.bundles import KINDS, hf_tokenizer, make_bundle, sample_texts

TEXTS, UNSEEN = sample_texts(30), "엘더플라워 향수병 뚜껑은 zxqv 42처럼 낯설어요"


@pytest.mark.parametrize("form", ["joint", "prompt"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_smaller_vocabulary_reads_the_same(kind: str, form: str, tmp_path: Path) -> None:
    make_bundle(tmp_path / "old", kind, score_form=form)
    old = bundles.load(str(tmp_path / "old"))
    meta = steps.vocabulary(tmp_path / "new", steps.unsealed_copy(old, tmp_path / "new", "vocabulary"), TEXTS)
    bundles.seal(tmp_path / "new", meta)
    before, after = (Tokenizer.load(tmp_path / name / "tokenizer") for name in ("old", "new"))
    assert len(after.hf) < len(before.hf) or kind != "roberta"  # the others' pieces are nearly all single characters
    assert Analyzer(tmp_path / "new", "cpu")(TEXTS[:8]) == Analyzer(tmp_path / "old", "cpu")(TEXTS[:8])
    unknown = [tokenizer.hf.unk_token_id for tokenizer in (before, after)]
    ids = [tokenizer([UNSEEN]).sequences.ids for tokenizer in (before, after)]
    assert (ids[0] == unknown[0]).sum() == (ids[1] == unknown[1]).sum()  # smaller pieces, none unknown


@pytest.mark.parametrize("form", ["joint", "prompt"])
def test_a_slice_has_the_shape_that_is_asked_for(form: str, tmp_path: Path) -> None:
    make_bundle(tmp_path / "old", score_form=form)
    old = bundles.load(str(tmp_path / "old"))
    meta = steps.cut(tmp_path / "new", steps.unsealed_copy(old, tmp_path / "new", "slice"), TEXTS, 1, 16)
    bundles.seal(tmp_path / "new", meta)
    shape = Analyzer(tmp_path / "new", "cpu").runtime.keywords.config
    assert (shape.num_hidden_layers, shape.intermediate_size) == (1, 16)
    assert len(Analyzer(tmp_path / "new", "cpu")(TEXTS[:2])) == 2


def test_a_piece_that_never_occurs_goes_and_others_are_numbered_anew(tmp_path: Path) -> None:
    vocabulary = ["[UNK]", "[PAD]", "[CLS]", "never", "[SEP]", "ab", "##never", "##c", "a", "##b"]
    raw = Raw(models.WordPiece({piece: i for i, piece in enumerate(vocabulary)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.BertProcessing(("[SEP]", 4), ("[CLS]", 2))
    specials = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=raw, **specials).save_pretrained(tmp_path)
    kept = cut_tokenizer(tmp_path, ["abc ab"])
    assert [vocabulary[i] for i in kept] == ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "ab", "##c", "a", "##b"]
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer(["abc"]).sequences.ids.tolist() == [4, 5]
    assert (tokenizer.prefix, tokenizer.suffix, tokenizer.pad_id) == ([2], [3], 1)


def test_virtual_tokens_stay(tmp_path: Path) -> None:
    before = with_virtual_tokens(hf_tokenizer("bert"), 9_000, 2, "x")
    before.save_pretrained(tmp_path)
    kept = cut_tokenizer(tmp_path, ["배송"])
    assert {9_000, 9_001} <= set(kept.tolist())
    after = Tokenizer.load(tmp_path)
    assert kept[after.prefix].tolist() == Tokenizer(before).prefix


def test_pieces_that_are_built_of_others_stay(tmp_path: Path) -> None:
    raw = Raw(models.BPE({"a": 0, "b": 1, "ab": 2, "[UNK]": 3}, [("a", "b")], unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="a BPE tokenizer builds every piece out of smaller ones"):
        cut_tokenizer(tmp_path, ["ab"])


def test_weights_in_8_bits_take_less_room_and_say_nearly_the_same(tmp_path: Path) -> None:
    make_bundle(tmp_path / "old", score_form="joint")
    old = bundles.load(str(tmp_path / "old"))
    bundles.seal(tmp_path / "new", steps.store(tmp_path / "new", steps.unsealed_copy(old, tmp_path / "new", "store")))
    assert (tmp_path / "new/joint/int8.safetensors").is_file()
    assert not (tmp_path / "new/joint/model.safetensors").exists()
    a, b = (
        np.array([one["keyword_probabilities"] for one in Analyzer(tmp_path / name, "cpu")(TEXTS)])
        for name in ("old", "new")
    )
    assert np.abs(a - b).max() < 0.02


@pytest.mark.skipif(not has_int8(), reason="this torch has no int8 product")
def test_int8_is_a_matter_of_the_bundle_alone(tmp_path: Path) -> None:
    make_bundle(tmp_path / "old", score_form="joint")
    old = bundles.load(str(tmp_path / "old"))
    meta = steps.int8(tmp_path / "new", steps.unsealed_copy(old, tmp_path / "new", "int8"))
    bundles.seal(tmp_path / "new", meta)
    analyze = Analyzer(tmp_path / "new", "cpu")
    assert analyze.runtime.device.backend == "int8"
    assert [one["findings"] for one in analyze(TEXTS[:3])] == [analyze([text])[0]["findings"] for text in TEXTS[:3]]


def test_what_it_was_made_of_is_kept(tmp_path: Path) -> None:
    make_bundle(tmp_path / "old", score_form="joint")
    (tmp_path / "old/README.md").write_text("a card")
    old = bundles.load(str(tmp_path / "old"))
    meta = steps.unsealed_copy(old, tmp_path / "new", "store")
    assert meta.provenance["of"] == old.id
    assert not (tmp_path / "new/README.md").exists()  # it describes another bundle
    assert not (tmp_path / "new/bundle.json").exists()

"""Small real things to test with: tokenizers, two-layer encoders, sealed bundles. Weights are random, by a seed."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from tokenizers.trainers import WordPieceTrainer
from transformers import BertConfig, BertModel, ElectraConfig, ElectraModel, RobertaConfig, RobertaModel
from transformers import PreTrainedTokenizerFast as FastTokenizer

from ray_app import sample
from ray_app.data.taxonomy import Taxonomy, load
from ray_app.engine.encoder import EncoderClassifier, save_model
from ray_app.engine.keyword_attention import KeywordAttention, KeywordScorer
from ray_app.engine.tokenizer_training import train_tokenizer
from ray_app.inference import bundle

KINDS = ("bert", "roberta", "electra")
ODD_TEXTS = (
    "옷은 예쁘지만 배송은 늦어요",
    "  색상이   화면과 달라요 😀👍🏽 그래도 만족  ",
    "사이즈가 커요 사이즈가 커요 좋아요",
    "배송빠르고옷도이쁘네요",
    "굿",
    "좋아요 " * 60 + "끝",
    "핏\t예뻐요\n소재는 별로…ㅠㅠ",
)
SPECIALS = {
    "unk_token": "[UNK]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def sample_texts(count: int = 200) -> list[str]:
    return [row["text"] for row in sample.written_reviews()[:count]]


@cache
def hf_tokenizer(kind: str) -> Any:
    """WordPiece with [CLS], [SEP], [MASK]; for `roberta` a Metaspace Unigram with <s>, </s>, <mask>."""
    texts = [*sample_texts(400), bundle.SCORE_PROMPT, " ".join(load().names)]
    if kind == "roberta":
        return train_tokenizer(texts, 1_200)
    raw = RawTokenizer(WordPiece(unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = list(SPECIALS.values())
    raw.train_from_iterator(texts, WordPieceTrainer(vocab_size=1_500, special_tokens=specials, show_progress=False))
    learned = sorted(set(raw.get_vocab()) - set(specials))  # training numbers them in any order
    raw.model = WordPiece({token: i for i, token in enumerate([*specials, *learned])}, unk_token="[UNK]")
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, raw.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    )
    return FastTokenizer(tokenizer_object=raw, **SPECIALS)


def encoder(kind: str, seed: int = 0, dropout: float = 0.0) -> Any:
    """Two layers of width 32, with weights large enough that texts differ."""
    configs = {
        "bert": (BertConfig, BertModel, {"add_pooling_layer": False}),
        "roberta": (RobertaConfig, RobertaModel, {"add_pooling_layer": False}),
        "electra": (ElectraConfig, ElectraModel, {}),
    }
    config_type, model_type, options = configs[kind]
    tokenizer = hf_tokenizer(kind)
    config = config_type(
        vocab_size=len(tokenizer),
        hidden_size=32,
        embedding_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
        initializer_range=0.3,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(seed)
    return model_type(config, **options).eval()


def classifier_model(
    kind: str = "bert",
    outputs: int = 15,
    pooling: str = "first",
    seed: int = 0,
    dropout: float = 0.0,
    spread: float = 0.3,
) -> EncoderClassifier:
    """`spread`: how far its answers differ between texts; 0 gives every text the same answer."""
    model = EncoderClassifier(encoder(kind, seed, dropout), outputs, dropout, pooling)
    torch.nn.init.normal_(model.head.weight, std=spread)
    return model.eval()


def keyword_scorer(
    kind: str, taxonomy: Taxonomy, seed: int = 0, queries: int = 2, finds: bool = False
) -> KeywordScorer:
    """Keywords that attend to different tokens, with random weights large enough that texts differ."""
    base = encoder(kind, seed)
    torch.manual_seed(seed)
    head = KeywordAttention(len(taxonomy.names), 32, len(taxonomy.scores) + finds, queries=queries)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(std=0.15)
        head.mean.normal_()
        head.spread.uniform_(0.5, 2.0)
    return KeywordScorer(base, head).eval()


def make_bundle(
    folder: Path,
    kind: str = "bert",
    pooling: str = "first",
    max_length: int = 64,
    threshold: float = 0.5,
    score_outputs: int | None = None,
    taxonomy: Taxonomy | None = None,
    mask_token: bool = True,
    spread: float = 0.3,
    score_form: str = "prompt",
    opinions: str = "occlusion",
) -> str:
    """A sealed bundle with random weights; returns its id. About half of all keywords are found at threshold 0.5."""
    taxonomy = taxonomy or load()
    outputs = {"keywords": len(taxonomy.names), "scores": score_outputs or len(taxonomy.scores)}
    if score_form == "joint":
        save_model(keyword_scorer(kind, taxonomy, finds=True), folder / "joint")
        outputs = {}
    for seed, (name, width) in enumerate(outputs.items()):
        attends = name == "scores" and score_form == "attention"
        model = keyword_scorer(kind, taxonomy, seed) if attends else None
        save_model(model or classifier_model(kind, width, pooling, seed, spread=spread), folder / name)
    hf_tokenizer(kind).save_pretrained(folder / "tokenizer")
    if not mask_token:
        _without_mask(folder / "tokenizer")
    meta = bundle.BundleMeta(
        taxonomy=taxonomy,
        thresholds=(threshold,) * len(taxonomy.names),
        max_length=max_length,
        pooling=pooling,
        score_form=score_form,
        opinions=opinions,
    )
    return bundle.seal(folder, meta)


def _without_mask(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["mask_token"]
    path.write_text(json.dumps(content), encoding="utf-8")

"""Tiny models of many transformers families, with random weights, saved with a tokenizer as a base model is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, utils

from ray_app import sample
from ray_app.engine.agreement import TEXTS
from ray_app.engine.encoder import load_keyword_scorer
from ray_app.inference.analyzer import Analyzer
from tests.support.bundles import ODD_TEXTS, hf_tokenizer

COMMON = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 160,
    "initializer_range": 0.3,
}
SEQ2SEQ = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
CUT = {"d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64, "num_decoder_layers": 1, "block_sizes": [1, 1]}
OWN: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "bart": SEQ2SEQ,
    "canine": {"local_transformer_stride": 16, "downsampling_rate": 2, "num_hash_buckets": 64, "num_hash_functions": 4},
    "convbert": {"embedding_size": 16, "head_ratio": 1, "conv_kernel_size": 3, "num_groups": 1},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 32},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 16},
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2},
    "electra": {"embedding_size": 16},
    "esm": {"mask_token_id": 4, "token_dropout": False},
    "eurobert": {"num_key_value_heads": 2, "head_dim": 16},
    "flaubert": {"emb_dim": 32, "n_layers": 2, "n_heads": 2},
    "funnel": {"architectures": ["FunnelModel"], **CUT},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 160},
    "llama": {"num_key_value_heads": 2},
    "longformer": {"attention_window": [8, 8]},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 16},
    "mbart": SEQ2SEQ,
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 16},
    "nystromformer": {"num_landmarks": 4, "segment_means_seq_len": 160},
    "perceiver": {"d_latents": 32, "d_model": 32, "num_latents": 8, "num_blocks": 1, "num_self_attends_per_block": 2},
    "reformer": {"attention_head_size": 16, "axial_pos_embds": False, "attn_layers": ["local", "local"]},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 16},
    "roc_bert": {"shape_vocab_size": 50, "pronunciation_vocab_size": 50},
    "squeezebert": {"embedding_size": 32},
    "t5": {"d_model": 32, "d_ff": 64, "d_kv": 16, "num_layers": 2, "num_heads": 2},
    "xlm": {"emb_dim": 32, "n_layers": 2, "n_heads": 2},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64},
    "xmod": {"languages": ["ko"], "default_language": "ko"},
}
LACKS = {"funnel": ("num_hidden_layers",), "xlnet": ("max_position_embeddings",)}
METASPACE = ("camembert", "data2vec-text", "ibert", "longformer", "mpnet", "xmod")  # whose tokenizers are as RoBERTa's
FAMILIES = (
    *("albert", "bert", "big_bird", "camembert", "canine", "convbert", "data2vec-text", "deberta", "deberta-v2"),
    *("distilbert", "electra", "ernie", "esm", "eurobert", "flaubert", "fnet", "funnel", "ibert", "layoutlm"),
    *("longformer", "luke", "megatron-bert", "mobilebert", "modernbert", "mpnet", "mra", "nomic_bert"),
    *("nystromformer", "perceiver", "reformer", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer"),
    *("squeezebert", "xlm", "xlm-roberta", "xlm-roberta-xl", "xlnet", "xmod", "yoso", "bart", "mbart", "t5"),
    *("gpt2", "llama"),
)


def save_family(name: str, folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A base model of a family in `folder`: two layers of width 32. `changes` go into its config."""
    utils.logging.set_verbosity_error()
    utils.logging.disable_progress_bar()
    tokenizer = hf_tokenizer("roberta" if "roberta" in name or name in METASPACE else "bert")
    ids = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("pad", "bos", "eos")}
    common = {key: value for key, value in COMMON.items() if key not in LACKS.get(name, ())}
    settings = {**common, **OWN.get(name, {}), "vocab_size": len(tokenizer), **ids, **changes}
    torch.manual_seed(seed)
    AutoModel.from_config(AutoConfig.for_model(name, **settings)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def train_family(base: Path, output: Path, **options: Any) -> str:
    """A joint bundle of 24 sample reviews, one pass, in this process; returns its id."""
    from ray_app.training import train

    rows = [row for row in sample.written_reviews() if row["split"] == "train"][:24]
    labels = base / "labels.jsonl"
    lines = [json.dumps({k: row[k] for k in ("review_id", "text", "labels")}, ensure_ascii=False) for row in rows]
    labels.write_text("\n".join(lines), encoding="utf-8")
    given: dict[str, Any] = {"epochs": 1, "batch_size": 8, "max_length": 96, "workers": 0, "device": "cpu", **options}
    return train.run(train.Config(labels=str(labels), base_model=str(base), output=str(output), **given))


@torch.inference_mode()
def apart_from_transformers(bundle: Path) -> float:
    """How far a keyword's probability lies at most from transformers' own forward of each text by itself; the joint
    bundle is asked about all at once."""
    texts = [*TEXTS, *ODD_TEXTS]
    found = np.array([row["keyword_probabilities"] for row in Analyzer(str(bundle), "cpu")(texts)])
    tokenizer = AutoTokenizer.from_pretrained(bundle / "tokenizer")
    encoder, head = (
        AutoModel.from_pretrained(bundle / "joint").eval(),
        load_keyword_scorer(bundle / "joint").head.eval(),
    )
    expected = []
    for text in texts:
        encoded = tokenizer(text, truncation=True, max_length=96, return_tensors="pt")
        ids = encoded["input_ids"]
        states = encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        logits, _ = head(states, torch.ones_like(ids))
        expected.append(logits.view(head.keywords, -1)[:, -1].sigmoid().numpy())
    return float(np.abs(found - np.array(expected)).max())

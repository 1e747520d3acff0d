"""FLOPs against what torch counts, the counters of work, and the backends."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, ElectraConfig

from ray_app.engine.classifier import Classifier
from ray_app.engine.device import BACKENDS, CPU_TOKENS, Device, choose_device
from ray_app.engine.encoder import EncoderClassifier
from ray_app.engine.flops import WorkCounters, encoder_flops, measure_gemm_flops, summary
from ray_app.engine.linear import Backend, has_int8
from ray_app.engine.ragged import Sequences
from ray_app.engine.unpadded import UnpaddedClassifier
from ray_app.errors import UserError
from ray_app.inference import bundle as bundles
from ray_app.inference.runtime import BundleRuntime
from tests.support import bundles as fakes

CPU = torch.device("cpu")
LENGTHS = np.array([1, 3, 3, 8, 21], np.int64)
ROWS = [list(range(5, 5 + n)) for n in LENGTHS]
needs_int8 = pytest.mark.skipif(not has_int8(), reason="this torch has no int8 product")


def model(kind: str, pooling: str) -> EncoderClassifier:
    """As torch counts it: eager attention is made of products."""
    made = fakes.classifier_model(kind, 5, pooling)
    made.encoder.set_attn_implementation("eager")
    return made


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("kind", fakes.KINDS)
def test_flops_of_whole_layers_are_those_that_torch_counts_in_the_stock_forward(kind: str, pooling: str) -> None:
    """All matrix products are compared, to the last one: ELECTRA's embedding projection, every layer's linear maps and
    attention (eager, whose products torch sees), and the head; transformers' own forward, a sequence at a time.
    """
    stock = model(kind, pooling)
    with torch.inference_mode(), FlopCounterMode(display=False) as counted:
        for row in ROWS:
            ids = torch.tensor([row])
            stock(ids, torch.ones_like(ids))
    assert encoder_flops(stock.encoder.config, 5, LENGTHS, first_row_only=False) == counted.get_total_flops()


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("kind", fakes.KINDS)
def test_flops_are_those_that_torch_counts_in_the_flat_forward(kind: str, pooling: str) -> None:
    """What the engine runs, with the first row's shortcut in the last layer; in bf16, where its products are torch's
    own, and attention as plain products: torch does not count oneDNN's linear and the CPU's fused attention. Nor does
    it count the first row's attention, which is made of sums: that is added by hand, width for each token, twice; and
    the head, which runs in fp32. Eight sequences of 40 tokens fill whole shapes.
    """
    made, lengths = model(kind, pooling), np.array([1, 2, 3, 3, 4, 6, 8, 13], np.int64)
    flat = UnpaddedClassifier(made, CPU, "bf16")
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted:
        flat(Sequences.of([list(range(5, 5 + n)) for n in lengths]))
    sums, head = 2 * 2 * 32 * 40 if pooling == "first" else 0, 2 * 5 * 32 * len(lengths)
    assert encoder_flops(made.encoder.config, 5, lengths, pooling == "first") == counted.get_total_flops() + sums + head


def test_flops_of_a_tiny_encoder_by_hand() -> None:
    """Two layers of width 4 with 8 inner units, two sequences of 2 and 3 tokens, a head of 3 outputs; x2 at the end."""
    sizes = {"hidden_size": 4, "num_hidden_layers": 2, "intermediate_size": 8, "num_attention_heads": 1}
    config: Any = BertConfig(**sizes)
    lengths = np.array([2, 3], np.int64)
    linear = 5 * (4 * 4 * 4 + 2 * 4 * 8)  # query, key, value, output; up, down: for five tokens
    attention = 2 * 4 * (2 * 2 + 3 * 3)  # scores and mixture: width 4 for each pair of tokens
    head = 2 * 3 * 4
    assert encoder_flops(config, 3, lengths, first_row_only=False) == 2 * (2 * (linear + attention) + head)
    keys_values = 5 * 2 * 4 * 4
    first_rows = 2 * (2 * 4 * 4 + 2 * 4 * 8)
    attended = 2 * 4 * (2 + 3)
    last = keys_values + first_rows + attended
    assert encoder_flops(config, 3, lengths, first_row_only=True) == 2 * (linear + attention + last + head)
    project = 5 * 2 * 4
    config = ElectraConfig(**sizes, embedding_size=2)
    assert encoder_flops(config, 3, lengths, first_row_only=True) == 2 * (project + linear + attention + last + head)
    assert encoder_flops(config, 3, lengths[:0], first_row_only=True) == 0


def test_work_adds_up_by_name() -> None:
    work = WorkCounters()
    work.add(tokens=3, seconds=0.5)
    work.add(tokens=4, padding=1)
    assert work == {"tokens": 7, "seconds": 0.5, "padding": 1}


def test_no_work_has_no_summary() -> None:
    assert summary(WorkCounters()) == {}
    assert summary(WorkCounters(tokens=5)) == {}
    assert summary(WorkCounters(seconds=1.0, reviews=3)) == {}


def test_the_figures_of_a_run_by_hand() -> None:
    work = WorkCounters(
        sequences=900, sequences_run=720, tokens=9_000, padding=1_000, flops=6e9, seconds=4.0, gemm_seconds=3.0
    )
    work.add(reviews=40, masked=10, words=120)
    assert summary(work) == {
        "tokens": 9_000,
        "tokens_per_second": 2_250,
        "padding_share": 0.1,
        "flops": 6e9,
        "flops_per_second": 1.5e9,
        "gemm_ratio": 0.75,
        "model_seconds": 4.0,
        "reviews_masked": 0.25,
        "words_a_review": 12.0,
        "left_by_skipping": round((1 + 0.25 * 12) / (1 + 12), 4),
        "sequences": 900,
        "sequences_run": 720,
    }


def test_a_run_without_highlights_masks_nothing_and_skips_nothing() -> None:
    found = summary(WorkCounters(tokens=10, seconds=1.0))
    assert (found["reviews_masked"], found["words_a_review"], found["left_by_skipping"]) == (0, 0, 1)
    assert found["padding_share"] == found["gemm_ratio"] == 0


@pytest.mark.parametrize("backend", ["fp32", pytest.param("int8", marks=needs_int8)])
def test_the_probe_finds_a_plausible_speed(backend: Backend) -> None:
    """Above 100 MFLOP/s, which one slow core passes, and below 1 PFLOP/s, which no CPU does."""
    assert 1e8 < measure_gemm_flops(CPU, backend, rounds=1) < 1e15


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_a_classifier_counts_each_distinct_sequence_and_its_products(pooling: str, flat: bool) -> None:
    made = model("electra", pooling)
    work = WorkCounters(tokens=100)
    run = Classifier(made, Device(CPU, "fp32", 24), 0, flat, work, probe=2e6)
    run(Sequences.of([*ROWS, ROWS[2], ROWS[4]]))
    flops = encoder_flops(made.encoder.config, 5, LENGTHS[[0, 1, 3, 4]], first_row_only=flat and pooling == "first")
    assert run.work is work
    assert (work["sequences"], work["sequences_run"], work["tokens"]) == (7, 4, 100 + 1 + 3 + 8 + 21)
    assert work["flops"] == flops
    assert work["gemm_seconds"] == flops / 2e6
    assert 0 < work["seconds"] < 10
    assert work["padding"] == (7 if flat else 7 + 5)  # flat: 21 + 3 tokens, 8 + 1 in 16 rows; stock: 1, 3, 8 and 21


def test_without_a_probe_nothing_is_compared() -> None:
    run = Classifier(model("bert", "first"), Device(CPU, "fp32", 64), 0)
    run(Sequences.of(ROWS))
    assert "gemm_seconds" not in run.work
    assert summary(run.work)["gemm_ratio"] == 0


def test_parts_count_what_both_classifiers_do_and_probe_where_asked(bundle_folder: str) -> None:
    runtime = BundleRuntime(bundle_folder, "cpu", probe=True)
    assert runtime.gemm > 1e8
    runtime.keywords(Sequences.of(ROWS[:2]))
    runtime.scores(Sequences.of(ROWS[2:]))
    assert runtime.work["tokens"] == sum(LENGTHS)
    assert runtime.work["gemm_seconds"] == pytest.approx(runtime.work["flops"] / runtime.gemm)
    assert BundleRuntime(bundle_folder, "cpu").gemm == 0


def test_a_backend_is_placed_or_refused() -> None:
    assert choose_device("cpu", backend="bf16") == Device(CPU, "bf16", CPU_TOKENS)
    assert (
        choose_device("cpu", backend="auto") == choose_device("cpu", backend="fp32") == Device(CPU, "fp32", CPU_TOKENS)
    )
    with pytest.raises(UserError, match=f"backend 'fp16': write {', '.join(BACKENDS)}"):
        choose_device("cpu", backend="fp16")


@needs_int8
def test_a_bundle_of_int8_runs_both_classifiers_in_int8(bundle_folder: str) -> None:
    assert choose_device("cpu", backend="int8") == Device(CPU, "int8", CPU_TOKENS)
    bundle = bundles.load(bundle_folder)
    exact, rough = (
        BundleRuntime(replace(bundle, meta=replace(bundle.meta, backend=name)), "cpu") for name in ("fp32", "int8")
    )
    rows = exact.tokenizer(fakes.sample_texts(40)).sequences
    for name in ("keywords", "scores"):
        one, other = getattr(exact, name)(rows), getattr(rough, name)(rows)
        assert getattr(rough, name).device.backend == "int8"
        assert 1e-4 < np.abs(one - other).max() < 0.1 * np.ptp(one)


@needs_int8
def test_int8_is_refused_for_an_encoder_that_cannot_run_flat() -> None:
    made = model("bert", "first")
    made.encoder.config.hidden_act = "relu"
    with pytest.raises(UserError, match="backend int8: not for bert encoders; write fp32"):
        Classifier(made, choose_device("cpu", backend="int8"), 0)

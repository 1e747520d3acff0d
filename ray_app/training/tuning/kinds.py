"""The kinds of tuning, and what each asks of the options.

full              every weight
head              what reads the encoder's states; the encoder is run once per text, and its states are kept
embeddings        the rows of the words, and nothing else: under a head that is trained already
embeddings-head   both
lora, dora        low-rank changes of every matrix (Hu et al. 2021, arXiv:2106.09685; Liu et al. 2024, arXiv:2402.09353)
ia3               a factor per key, value and inner unit (Liu et al. 2022, arXiv:2205.05638)
prefix            keys and values per layer, of no token (Li and Liang 2021, arXiv:2101.00190)
prompt            virtual tokens behind the first one (Lester et al. 2021, arXiv:2104.08691)
p-tuning          the same, made by a small network (Liu et al. 2021, arXiv:2103.10385)

All but `full` and `embeddings` train the head too.
"""

from importlib.util import find_spec

from ray_app.errors import check, pip_install

KINDS = ("full", "head", "embeddings", "embeddings-head", "lora", "dora", "ia3", "prefix", "prompt", "p-tuning")
ADAPTERS = ("lora", "dora", "ia3")  # through peft
RANKED = ("lora", "dora")  # with --rank
VIRTUAL = ("prompt", "p-tuning")
COUNTED = ("prefix", *VIRTUAL)  # with --virtual-tokens
WORDS = ("embeddings", "embeddings-head")
FAST = {"ia3": 10.0, "prefix": 10.0, "prompt": 10.0, "p-tuning": 3.0}  # the encoder's learning rate over the head's


def check_kinds(kinds: tuple[str, ...], base_model: str, virtual_tokens: int, max_length: int) -> None:
    """Raises UserError, one line, where a bundle's models cannot be tuned in these ways; `kinds` names each model's."""
    for kind in kinds:
        check(
            kind == "full" or base_model != "scratch",
            f"--tune {kind}: the weights of --base-model scratch are random, so all of them must train; write --tune "
            "full, or another base model",
        )
        check(kind not in ADAPTERS or find_spec("peft") is not None, f"--tune {kind} needs peft: {pip_install('tune')}")
    virtual = [kind in VIRTUAL for kind in kinds]
    check(
        all(virtual) or not any(virtual),
        f"--tune {kinds[0]} --tune-scores {kinds[-1]}: a bundle has one tokenizer, so both classifiers read virtual "
        "tokens or neither does; write prompt or p-tuning for both",
    )
    check(
        not any(virtual) or virtual_tokens < max_length // 2,
        f"--virtual-tokens {virtual_tokens}: they are among the {max_length} tokens of --max-length; write fewer than "
        f"{max_length // 2}",
    )

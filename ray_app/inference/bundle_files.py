"""What a bundle may hold besides bundle.json: nothing that runs, and nothing that makes a library run something else.

In: a bundle's folder and the names of its files. Raises UserError, one line, for the first file that is refused.
"""

import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ray_app.errors import check, first_line

SUFFIXES = (".json", ".safetensors", ".txt", ".model")  # everything else, a pickle above all, is refused
MODELS = ("keywords", "scores", "joint")
MODEL_FILE = re.compile(r"(config|generation_config|model\.safetensors\.index)\.json|[\w-]+\.safetensors")
FOREIGN = ("adapter_config.json",)  # it sends the loader to a model elsewhere
RUNS = ("auto_map", "custom_pipelines", "custom_generate", "quantization_config", "fusion_config")
KERNELS = ("attn_implementation", "experts_implementation")  # by their endings; OWNER/NAME is fetched, and run
LARGE = ("tokenizer.json", "vocab.json")  # that hold no settings
LAYERS = re.compile(r"(num|n|encoder|decoder)_(hidden_)?(layers?|blocks?)|num_hidden_groups|depth")
WIDTHS = re.compile(r"(hidden|intermediate|vocab|embedding)_(size|dim)|d_model|d_ff|dim|ffn_dim")
HEADER_BYTES = 16 << 20  # of a file of weights
LENGTHS = (4, 100_000)  # tokens that a bundle may read of a review
NEVER = 1.5  # a threshold that no probability reaches
ONE_OF = {
    "pooling": ("first", "mean"),
    "score_form": ("prompt", "attention", "joint"),
    "highlights": ("occlusion", "attention"),
    "opinions": ("occlusion", "attention"),
    "backend": ("auto", "fp32", "bf16", "int8"),
}


def check_inert(folder: Path, names: Iterable[str], uri: str) -> None:
    """Raises UserError where a file may hold code, is none that a model or tokenizer needs, or names code elsewhere."""
    for name in sorted(names):
        place = f"bundle {uri}: {name}"
        check(name.endswith(SUFFIXES), f"{place} may hold code; only {', '.join(SUFFIXES)} are loaded")
        within, file = name.partition("/")[0], name.rpartition("/")[2]
        known = file not in FOREIGN and (within not in MODELS or MODEL_FILE.fullmatch(name.partition("/")[2]))
        check(known, f"{place} is no file of a model; remove it and seal the bundle again")
        if within in (*MODELS, "tokenizer") and file.endswith(".json") and file not in LARGE:
            _check_settings(folder / name, place)


def _check_settings(path: Path, place: str) -> None:
    """Raises UserError where a JSON file of settings, at any depth, asks for code or for a kernel of a hub."""
    for key, content in _settings(path, place):
        check(not (key in RUNS and content), f"{place} names code of its own ({key}): it is never run")
        kernel = str(key).endswith(KERNELS) and "/" in str(content)
        check(not kernel, f"{place} asks for a kernel of a hub ({key}: {str(content)[:60]}); remove it")


def check_values(content: Mapping[str, object], place: str) -> None:
    """Raises UserError where what bundle.json says of the models is no value that it can have."""
    for name, known in ONE_OF.items():
        value = content.get(name, known[0])
        check(value in known, f"{place}: {name} is {str(value)[:60]!r}; one of {', '.join(known)} is needed")
    length, prompt, thresholds = content["max_length"], content["score_prompt"], content["thresholds"]
    check(
        type(length) is int and LENGTHS[0] <= length <= LENGTHS[1],
        f"{place}: max_length is {str(length)[:20]!r}; a number from {LENGTHS[0]} to {LENGTHS[1]:,} is needed",
    )
    fields = re.findall(r"{[^{}]*}?", prompt) if isinstance(prompt, str) else []
    check(sorted(fields) == ["{keyword}", "{review}"], f"{place}: score_prompt needs {{review}} and {{keyword}}, once")
    shares = isinstance(thresholds, list) and all(
        type(each) in (int, float) and 0 <= each <= NEVER for each in thresholds
    )
    check(shares, f"{place}: thresholds must be numbers from 0 to 1, or up to {NEVER} for a keyword never found")
    files = content["files"]
    named = isinstance(files, dict) and all(isinstance(digest, str) for digest in files.values())
    check(named, f"{place}: files must name a hash for each file")


def check_sizes(folder: Path, place: str) -> None:
    """Raises UserError where a model's config.json asks for more layers or wider ones than there are weights for: they
    would be made first, and compared afterwards."""
    shapes = [shape for path in sorted(folder.glob("*.safetensors")) for shape in _shapes(path, f"{place}/{path.name}")]
    widest = max((size for shape in shapes for size in shape), default=0)
    for name, value in _settings(folder / "config.json", f"{place}/config.json"):
        if type(value) is int and (LAYERS.fullmatch(name) or WIDTHS.fullmatch(name)):
            most = len(shapes) if LAYERS.fullmatch(name) else widest
            least = int(name == "num_hidden_layers")  # a decoder that is not there may have none
            check(
                least <= value <= most,
                f"{place}/config.json: {name} is {value}, and its weights are for {most} at most",
            )


def _settings(path: Path, place: str) -> Iterator[tuple[str, object]]:
    """Every setting of a JSON file, at any depth."""
    try:
        waiting = [json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, RecursionError) as error:
        reason = first_line(error)
        check(False, f"{place} is damaged ({reason})")
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _shapes(path: Path, place: str) -> list[list[int]]:
    """The shapes that the header of a file of weights names; the file itself is checked when it is read."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            check(length <= HEADER_BYTES, f"{place} is damaged (a header of {length:,} bytes)")
            header = json.loads(file.read(length))
        return [[int(size) for size in entry["shape"]] for name, entry in header.items() if name != "__metadata__"]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = first_line(error)
        check(False, f"{place} is damaged ({reason})")
    return []

"""What a bundle may hold besides bundle.json: nothing that runs, and nothing that makes a library run something else.

In: a bundle's folder and the names of its files. Raises UserError, one line, for the first file that is refused.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from ray_app.errors import check, first_line

SUFFIXES = (".json", ".safetensors", ".txt", ".model")  # everything else, a pickle above all, is refused
MODELS = ("keywords", "scores", "joint")
MODEL_FILE = re.compile(r"(config|generation_config|model\.safetensors\.index)\.json|[\w-]+\.safetensors")
FOREIGN = ("adapter_config.json",)  # it sends the loader to a model elsewhere
RUNS = ("auto_map", "custom_pipelines", "custom_generate", "quantization_config", "fusion_config")
KERNELS = ("attn_implementation", "experts_implementation")  # by their endings; OWNER/NAME is fetched, and run
LARGE = ("tokenizer.json", "vocab.json")  # that hold no settings


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
    try:
        waiting = [json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, RecursionError) as error:
        reason = first_line(error)
        check(False, f"{place} is damaged ({reason})")
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        if not isinstance(value, dict):
            continue
        for key, content in value.items():
            check(not (key in RUNS and content), f"{place} names code of its own ({key}): it is never run")
            kernel = str(key).endswith(KERNELS) and "/" in str(content)
            check(not kernel, f"{place} asks for a kernel of a hub ({key}: {str(content)[:60]}); remove it")
        waiting += value.values()

"""A bundle that asks for code of its own, or for someone else's, is refused in one line and nothing is executed."""

import ast
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from ray_app.data.taxonomy import load
from ray_app.engine.encoder import load_model
from ray_app.engine.tokenizer import Tokenizer
from ray_app.errors import UserError
from ray_app.inference import bundle
from ray_app.inference.analyzer import Analyzer
from ray_app.inference.runtime import BundleRuntime
from tests.support.house import trees

AUTO_MAP = {"auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model", "AutoTokenizer": ["code.T", None]}}
KERNEL = {"attn_implementation": "someone/kernel"}
SIZES = [
    *(("num_hidden_layers", size) for size in (10**9, 20_000, 0, -1)),
    *(("hidden_size", 10**9), ("vocab_size", 10**10), ("intermediate_size", 10**6)),
]
VALUES = [
    *({"max_length": value} for value in (10**12, -5, "256", True, None)),
    *({"score_prompt": value} for value in (None, "", "{review.__class__}{keyword}", "{review:>1000000000}{keyword}")),
    *({"thresholds": value} for value in ([float("nan")] * 15, ["0.5"] * 15, "0" * 15, [2.0] * 15, None)),
    *({"files": value} for value in (["a"], {"a": 1}, None)),
    *({name: "../../x"} for name in ("pooling", "score_form", "highlights", "opinions", "backend")),
    *({name: ["x"]} for name in ("pooling", "score_form", "highlights", "backend")),
]
HEADERS = {
    "a header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "a header beyond the file": struct.pack("<Q", 10**7) + b"{",
    "deep": struct.pack("<Q", 100_000) + b"[" * 100_000,
    "a pickle": b"\x80\x04cos\nsystem\n.",
    "nothing": b"",
    "shapes that are none": struct.pack("<Q", 23) + b'{"w":{"shape":["many"]}}'[:23],
    "a list": struct.pack("<Q", 2) + b"[]",
}
Seal = Callable[..., Path]


@pytest.fixture
def sealed(bundle_folder: str, tmp_path: Path) -> Seal:
    """Changes a JSON file of a copy of the bundle, adds files, and seals it as its maker would."""

    def seal(file: str = "", change: dict[str, Any] | None = None, **files: str) -> Path:
        folder = copytree(bundle_folder, tmp_path / "bundle")
        if change is not None:
            content = json.loads((folder / file).read_text(encoding="utf-8"))
            (folder / file).write_text(json.dumps({**content, **change}), encoding="utf-8")
        for name, text in files.items():
            (folder / name.replace("__", "/").replace("_json", ".json")).write_text(text, encoding="utf-8")
        bundle.seal(folder, bundle.BundleMeta(taxonomy=load(), thresholds=(0.5,) * 15))
        return folder

    return seal


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as raised:
        BundleRuntime(str(folder), "cpu").keyword_model()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("keywords/config.json", AUTO_MAP, "keywords/config.json names code of its own (auto_map)"),
        ("scores/config.json", {"text_config": [AUTO_MAP]}, "scores/config.json names code of its own (auto_map)"),
        ("tokenizer/tokenizer_config.json", AUTO_MAP, "tokenizer_config.json names code of its own (auto_map)"),
        (
            "keywords/config.json",
            KERNEL,
            "asks for a kernel of a hub (attn_implementation: someone/kernel)",
        ),
        ("keywords/config.json", {"_attn_implementation": {"": "a/b:c"}}, "asks for a kernel of a hub"),
        ("keywords/config.json", {"quantization_config": {"quant_method": "x"}}, "names code of its own"),
        ("keywords/config.json", {"model_type": "nothing-known"}, "keywords cannot be loaded"),
        ("keywords/config.json", {"hidden_size": "many"}, "keywords cannot be loaded"),
        *(("keywords/config.json", {name: size}, f"{name} is {size}, and its weights are for") for name, size in SIZES),
    ],
)
def test_settings_that_name_code_are_refused(sealed: Seal, file: str, change: dict[str, Any], words: str) -> None:
    assert words in refused(sealed(file, change))


@pytest.mark.parametrize("name", ["keywords__adapter_config_json", "tokenizer__adapter_config_json", "scores__x_json"])
def test_files_that_no_model_needs_are_refused(sealed: Seal, name: str) -> None:
    assert "is no file of a model" in refused(sealed(**{name: "{}"}))


def test_settings_too_deep_to_read_are_refused(sealed: Seal) -> None:
    assert "is damaged" in refused(sealed(keywords__generation_config_json='{"a":' + "[" * 100_000))


def test_even_unchecked_a_model_folder_runs_nothing_and_asks_nothing(
    sealed: Seal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers asks on stdin whether to run the code where it is not told: the answer here would be yes."""
    monkeypatch.setattr("builtins.input", lambda _: "y")
    folder = sealed("keywords/config.json", AUTO_MAP | {"model_type": "custom"})
    code = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    for place in ("keywords", "tokenizer"):
        (folder / place / "code.py").write_text(code, encoding="utf-8")
    settings = {"tokenizer_class": "Own", **AUTO_MAP}
    (folder / "tokenizer/tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ValueError, match="custom code"):
        load_model(folder / "keywords", "first")
    with pytest.raises(ValueError, match=r"custom code|Own"):
        Tokenizer.load(folder / "tokenizer")
    assert not (tmp_path / "ran").exists()


def test_whatever_is_loaded_is_told_not_to_run_code() -> None:
    loading = ("from_pretrained", "from_config")
    calls = [
        (path, node)
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in loading
    ]
    assert len(calls) > 6
    for path, call in calls:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("trust_remote_code") == "False", f"{path}:{call.lineno}"


@pytest.mark.parametrize("change", VALUES, ids=str)
def test_values_that_no_bundle_has_are_refused(sealed: Seal, change: dict[str, Any]) -> None:
    index = sealed() / "bundle.json"
    content = {**json.loads(index.read_text(encoding="utf-8")), **change}
    index.write_text(json.dumps({**content, "id": bundle._id(content)}), encoding="utf-8")
    assert f"bundle.json: {next(iter(change))}" in refused(index.parent)


@pytest.mark.parametrize("text", ["[1]", "null", '{"format":1,"x":' + "[" * 100_000, '{"format":1' + "0" * 5_000 + "}"])
def test_an_index_that_is_none_is_damaged(sealed: Seal, text: str) -> None:
    folder = sealed()
    (folder / "bundle.json").write_text(text, encoding="utf-8")
    assert "bundle.json is damaged" in refused(folder)


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("file", ["keywords/model.safetensors", "scores/head.safetensors"])
def test_weights_that_are_none_are_damaged(sealed: Seal, name: str, file: str) -> None:
    folder = sealed()
    (folder / file).write_bytes(HEADERS[name])
    bundle.seal(folder, bundle.BundleMeta(taxonomy=load(), thresholds=(0.5,) * 15))
    assert f"{file} is damaged" in refused(folder)


def test_links_in_a_circle_pipes_and_names_for_a_terminal_are_refused(sealed: Seal) -> None:
    folder = sealed()
    tokenizer = folder / "tokenizer"
    made: dict[str, Callable[[Path], object]] = {
        "loop.json": lambda path: path.symlink_to("loop.json"),
        "pipe.json": os.mkfifo,
        "a\x1b[2Jb.txt": lambda path: path.write_text("x"),
        os.fsdecode(b"\xff.txt"): lambda path: path.write_text("x"),
        "zero.json": lambda path: path.symlink_to("/dev/zero"),
    }
    for name, make in made.items():
        make(tokenizer / name)
        line = refused(folder)
        assert line.isprintable()
        assert any(words in line for words in ("links out", "is neither a file", "is no name for a file"))
        (tokenizer / name).unlink()


def _grows(content: dict[str, Any]) -> None:
    replace = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 16}
    content["normalizer"] = {"type": "Sequence", "normalizers": [replace] * 8}


def _never_ends(content: dict[str, Any]) -> None:
    content["normalizer"] = {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"}


def _beyond_the_embedding(content: dict[str, Any]) -> None:
    content["added_tokens"].append({**content["added_tokens"][-1], "id": 10**6, "content": "배송"})


def _no_model(content: dict[str, Any]) -> None:
    content["model"] = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "b"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_grows, "its normalizer makes a text up to"),
        (_never_ends, "tokenizer cannot be used"),
        (_beyond_the_embedding, "token ids up to"),
        (_no_model, "tokenizer cannot be used"),
    ],
)
def test_a_tokenizer_that_would_hang_or_break_on_a_review_is_refused(
    sealed: Seal, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    folder = sealed()
    path = folder / "tokenizer" / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    bundle.seal(folder, bundle.BundleMeta(taxonomy=load(), thresholds=(0.5,) * 15))
    with pytest.raises(UserError, match=words):
        assert BundleRuntime(str(folder), "cpu").keywords


@pytest.mark.parametrize("text", ["{", '{"a":' * 100_000, "[]", ""])
def test_a_tokenizer_that_is_none_is_refused(sealed: Seal, text: str) -> None:
    with pytest.raises(UserError, match="tokenizer cannot be used"):
        assert BundleRuntime(str(sealed(tokenizer__tokenizer_json=text)), "cpu").tokenizer


def test_a_model_that_answers_nan_is_refused_in_process_too(sealed: Seal) -> None:
    folder = sealed("keywords/config.json", {"layer_norm_eps": float("nan")})
    with pytest.raises(UserError, match="outputs are not numbers"):
        Analyzer(str(folder), device="cpu")(["배송이 늦어요"])


@pytest.mark.ray
def test_an_actor_refuses_it_too(ray_cluster: Any, sealed: Seal) -> None:
    def load_there(folder: str) -> str:
        try:
            bundle.load(folder)
        except UserError as error:
            return str(error)
        return "loaded"

    folder = sealed("keywords/config.json", AUTO_MAP)
    assert "names code of its own" in ray_cluster.get(ray_cluster.remote(num_cpus=0)(load_there).remote(str(folder)))

"""Mistakes of the user as one line."""

import pytest

from ray_app.errors import UserError, closest, first_line, no_package, no_space


@pytest.mark.parametrize(("name", "said"), [("배숑", "did you mean '배송'"), ("xyz", "known: 배송, 핏")])
def test_closest_suggests_or_lists(name: str, said: str) -> None:
    assert said in closest(name, ["배송", "핏"])


@pytest.mark.parametrize(("message", "line"), [("a\nb", "a"), ("", "ValueError"), ("x" * 999, "x" * 200)])
def test_first_line_is_short_and_never_empty(message: str, line: str) -> None:
    assert first_line(ValueError(message)) == line


def test_a_users_mistake_has_parts() -> None:
    error = UserError("--base-model 'x': it reads 64 tokens; write --max-length 64")
    parts = (error.place, error.problem, error.remedy, error.flag)
    assert parts == ("--base-model 'x'", "it reads 64 tokens", "write --max-length 64", "--base-model")
    plain = UserError("no labels")
    assert (plain.place, plain.problem, plain.remedy, plain.flag) == ("", "no labels", "", "")


def test_a_full_disk_is_named_however_a_library_says_it() -> None:
    with pytest.raises(OSError, match="No space left") as raised, open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")
    assert no_space(raised.value).startswith("no space left on the disk")
    wrapped = RuntimeError("training failed")
    wrapped.__cause__ = RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/3: file write failed")
    assert no_space(wrapped) == "no space left on the disk: free some and run again"
    assert no_space(FileNotFoundError(2, "No such file", "a")) == ""


@pytest.mark.parametrize(("module", "extra"), [("peft", "tune"), ("sacrebleu", "lm")])
def test_a_missing_package_names_its_extra(module: str, extra: str) -> None:
    assert f"'.[{extra}]'" in no_package(ModuleNotFoundError(name=module))

"""Figures of the code's shape: `python -m tests.support.house` prints them."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support.paths import ROOT

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def trees() -> dict[Path, ast.Module]:
    """Every module of the product, parsed, by its path from the root."""
    files = sorted([*(ROOT / "ray_app").rglob("*.py"), *(ROOT / "jobs").rglob("*.py")])
    return {path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8")) for path in files}


def functions() -> Iterator[tuple[Path, Function]]:
    """Every function and method."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield path, node


def untyped() -> list[str]:
    """Parameters and results whose annotation holds `Any`, also within a quoted one."""
    found = []
    for path, function in functions():
        given = function.args
        parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
        annotations = [(p.arg, p.annotation) for p in parameters] + [("->", function.returns)]
        found += [f"{path}:{function.lineno} {function.name} {name}" for name, hint in annotations if _holds_any(hint)]
    return found


def _holds_any(hint: ast.expr | None) -> bool:
    for node in ast.walk(hint) if hint is not None else ():
        if isinstance(node, ast.Name) and node.id == "Any":
            return True
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _holds_any(_parsed(node.value)):
            return True
    return False


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        return None


def long_functions(most: int) -> list[str]:
    """Functions of more than `most` lines."""
    lengths = [(path, function, (function.end_lineno or 0) - function.lineno + 1) for path, function in functions()]
    return [f"{path}:{function.lineno} {function.name}: {lines}" for path, function, lines in lengths if lines > most]


def long_files(most: int) -> list[str]:
    """Files of more than `most` lines."""
    lengths = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in trees()}
    return [f"{path}: {lines}" for path, lines in lengths.items() if lines > most]


def crowded_folders(most: int) -> list[str]:
    """Folders of more than `most` modules."""
    folders = [path.parent for path in trees() if path.name != "__init__.py"]
    return [f"{folder}: {folders.count(folder)}" for folder in sorted(set(folders)) if folders.count(folder) > most]


def undocumented() -> list[str]:
    """Public functions and classes of modules, and public methods of public classes, without a docstring."""
    found = []
    for path, tree in trees().items():
        for node in tree.body:
            inner = node.body if isinstance(node, ast.ClassDef) and node.name[0] != "_" else []
            for one in (node, *inner):
                if isinstance(one, (Function, ast.ClassDef)) and one.name[0] != "_" and not ast.get_docstring(one):
                    found.append(f"{path}:{one.lineno} {one.name}")
    return found


def main() -> None:
    """Prints the figures."""
    print(f"{len(untyped())} parameters and results hold Any")
    print(f"{len(trees())} files; over 300 lines: {long_files(300) or 'none'}")
    print(f"{len(list(functions()))} functions; over 40 lines: {long_functions(40) or 'none'}")
    print(f"folders of more than 20 modules: {crowded_folders(20) or 'none'}")
    print(f"public names without a docstring: {len(undocumented())}")


if __name__ == "__main__":
    main()

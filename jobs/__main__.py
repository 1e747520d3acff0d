"""Lists the verbs, or runs one: `python -m jobs analyze …` is `python -m jobs.analyze …`, and so is `nunchi-reviews`.

example: python -m jobs analyze --help
"""

import ast
import runpy
import sys
from pathlib import Path

from ray_app import __version__
from ray_app.cli import BAD_USAGE
from ray_app.errors import closest

FOLDER = Path(__file__).parent
ORDER = (
    "quickstart",
    "analyze",
    "report",
    "serve",
    "train",
    "evaluate",
    "acquire",
    "audit",
    "train_lm",
    "evaluate_lm",
    "pretrain",
    "compress",
)


def main() -> None:
    """Exits as the verb does: 2 for an unknown one."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] == "--version":
        print(f"nunchi {__version__}")
    elif not arguments or arguments[0] in ("-h", "--help"):
        print("\n".join(["usage: python -m jobs VERB [options]", "", *lines(), "", "VERB --help lists its options"]))
    else:
        run(arguments[0].replace("-", "_"), arguments[1:])


def run(verb: str, arguments: list[str]) -> None:
    """Runs `jobs/VERB.py` as `python -m jobs.VERB` would."""
    if verb not in verbs():
        print(f"error: unknown verb {verb!r}{closest(verb, verbs())}", file=sys.stderr)
        sys.exit(BAD_USAGE)
    sys.argv = [f"{FOLDER / verb}.py", *arguments]
    runpy.run_module(f"jobs.{verb}", run_name="__main__")


def verbs() -> list[str]:
    """Every verb, the daily ones first."""
    found = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))
    return sorted(found, key=lambda verb: (ORDER.index(verb) if verb in ORDER else len(ORDER), verb))


def lines() -> list[str]:
    """A line per verb: its name and the first line of its docstring."""
    texts = {verb: (FOLDER / f"{verb}.py").read_text(encoding="utf-8") for verb in verbs()}
    said = {verb: (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0] for verb, text in texts.items()}
    return [f"  {verb:<12} {line}" for verb, line in said.items()]


if __name__ == "__main__":
    main()

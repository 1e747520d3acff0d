"""How a row becomes a prompt and its completion, and how a completion is read back. Templates are data: a YAML file.

In: rows (labeled reviews, or rows of a table whose columns a template names). Out: texts; from a generated text, its
answer, and for reviews the keywords and scores in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from string import Formatter
from typing import cast

from ray_app import yaml_text
from ray_app.data.rows import LabelRow
from ray_app.data.taxonomy import Taxonomy
from ray_app.errors import UserError, check, closest
from ray_app.labels.completions import parse_pair

DEFAULT = Path(__file__).parent / "templates.yaml"
READS = ("labels", "table")
LABEL_FIELDS = ("review", "labels", "evidence")


@dataclass(frozen=True)
class Parsed:
    """A generated analysis: score per keyword, and the items that are not a keyword and score of the taxonomy."""

    scores: dict[str, int]
    bad: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Template:
    """One entry of the templates file; templates.yaml explains the fields at its top."""

    name: str
    reads: str
    prompt_format: str
    completion_format: str
    label: str = "{keyword}{score}"
    evidence: str = "{words}({keyword})"
    answer_after: str = ""
    stop: str = ""

    def __post_init__(self) -> None:
        location = f"template {self.name!r}"
        check(self.reads in READS, f"{location}: reads {self.reads!r}; write {' or '.join(READS)}")
        fields_read = LABEL_FIELDS if self.reads == "labels" else self.columns
        for name in self.columns:
            valid = name.isidentifier() and name in fields_read
            check(valid, f"{location}: unknown field {{{name}}}{closest(name, fields_read)}")
        check(
            _names(self.completion_format), f"{location}: the completion names no field, so there is nothing to learn"
        )
        check(self.answer_after in self.completion_format, f"{location}: answer_after is not in the completion")
        for text, allowed in ((self.label, ("keyword", "score")), (self.evidence, ("words", "keyword"))):
            check(set(_names(text)) <= set(allowed), f"{location}: {text!r} may name {', '.join(allowed)}")

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields of prompt and completion: for `table`, the columns that rows must have."""
        return tuple(dict.fromkeys(_names(self.prompt_format) + _names(self.completion_format)))

    @property
    def tail(self) -> str:
        """What follows the last field of the prompt: it stays when a long prompt is cut."""
        return _own_pieces(self.prompt_format)[-1]

    @property
    def completion_frame(self) -> tuple[str, str]:
        """What precedes the first field of the completion, and what follows the last."""
        pieces = _own_pieces(self.completion_format)
        return pieces[0], pieces[-1]

    @property
    def own_pieces(self) -> list[str]:
        """The template's own texts, around and between the fields of prompt and completion."""
        return [*_own_pieces(self.prompt_format), *_own_pieces(self.completion_format)]

    def prompt(self, row: Mapping[str, object]) -> str:
        """What the model is given for a row of `lm.dataset`; the row's labels may be missing."""
        return "".join(self.prompt_parts(row))

    def completion(self, row: Mapping[str, object]) -> str:
        """What the model is to write for a row of `lm.dataset`."""
        return "".join(self.completion_parts(row))

    def prompt_parts(self, row: Mapping[str, object]) -> list[str]:
        """The prompt in pieces: in turn the template's own and what fills a field, an own one first and last."""
        return _filled(self.prompt_format, self._values(row))

    def completion_parts(self, row: Mapping[str, object]) -> list[str]:
        """The completion in such pieces."""
        return _filled(self.completion_format, self._values(row))

    def answer(self, completion: str) -> str:
        """The answer within a generated completion: after the last `answer_after`, before `stop`."""
        text = completion.partition(self.stop)[0] if self.stop else completion
        return text.rpartition(self.answer_after)[2].strip() if self.answer_after else text.strip()

    def parse(self, completion: str, taxonomy: Taxonomy) -> Parsed:
        """Keywords and scores of a generated completion. What is unknown, out of scale or repeated is bad."""
        scores: dict[str, int] = {}
        bad = []
        for item in filter(None, (text.strip() for text in self.answer(completion).split(","))):
            try:
                label = parse_pair(item)
            except UserError:
                bad.append(item)
                continue
            keyword, score = label["keyword"], label["score"]
            if keyword in scores or keyword not in taxonomy.index or score not in taxonomy.scores:
                bad.append(item)
            else:
                scores[keyword] = score
        return Parsed(scores, tuple(bad))

    def to_dict(self) -> dict[str, str]:
        """The entry as the templates file has it; `from_dict` reads it back."""
        content = asdict(self)
        name = content.pop("name")
        return {"name": name, **{key.removesuffix("_format"): value for key, value in content.items()}}

    def _values(self, row: Mapping[str, object]) -> dict[str, object]:
        """The value of every field that the texts may name."""
        if self.reads == "table":
            return {name: row.get(name) for name in self.columns}
        labels = cast("list[LabelRow]", row.get("labels") or [])  # `lm.dataset` has checked them
        return {
            "review": row["text"],
            "labels": ", ".join(self.label.format(keyword=r["keyword"], score=r["score"]) for r in labels),
            "evidence": ", ".join(
                self.evidence.format(words=" ".join(words), keyword=r["keyword"])
                for r in labels
                if (words := r.get("highlights"))
            ),
        }


def few_shot(template: Template, examples: Sequence[Mapping[str, object]], row: Mapping[str, object]) -> list[str]:
    """The pieces of a prompt that shows solved examples first; without examples they are `template.prompt_parts`."""
    shown: list[str] = []
    for example in examples:
        shown = _joined(shown, _joined(template.prompt_parts(example), template.completion_parts(example)))
        shown[-1] += "\n\n"
    return _joined(shown, template.prompt_parts(row))


def load(name: str, path: str | Path = DEFAULT) -> Template:
    """The entry called `name` of a templates file. Raises UserError naming the file and what is missing or wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"templates {path}: {' '.join(str(error).split())}") from None
    content = yaml_text.read(text, f"templates {path}")
    if not isinstance(content, dict):
        raise UserError(f"templates {path}: expected entries such as `review:`")
    check(name in content, f"--task {name}: not in {path}{closest(name, map(str, content))}")
    check(isinstance(content[name], dict), f"templates {path}: {name} is not a mapping; see {DEFAULT.name}")
    return from_dict({"name": name, **content[name]}, f"templates {path}")


def from_dict(content: Mapping[str, object], location: str) -> Template:
    """Raises UserError naming `location` where an entry has an unknown or missing key."""
    field_of = {field.name.removesuffix("_format"): field.name for field in fields(Template)}
    values: dict[str, str] = {}
    for key, value in content.items():
        check(key in field_of, f"{location}: unknown key {key!r}{closest(str(key), field_of)}")
        if not isinstance(value, str):
            raise UserError(f"{location}: {key} must be text, is {str(value)[:60]!r}")
        values[field_of[key]] = value
    for key in ("reads", "prompt", "completion"):
        check(key in content, f"{location}: {content.get('name')} has no {key!r}")
    return Template(**values)


def check_readable(template: Template, taxonomy: Taxonomy) -> None:
    """Raises UserError where a keyword could be written but not read back, such as one with a comma in its name."""
    for keyword in taxonomy.names:
        for score in taxonomy.scores:
            text = template.label.format(keyword=keyword, score=score)
            read = template.parse(template.answer_after + text, taxonomy)
            check(
                read == Parsed({keyword: score}, ()),
                f"template {template.name!r}: {text!r} would not be read back as {keyword} and {score}; "
                "rename the keyword or change the template's label",
            )


def _names(text: str) -> tuple[str, ...]:
    """The names in braces, in order."""
    try:
        return tuple(name for _, name, _, _ in Formatter().parse(text) if name is not None)
    except ValueError as error:
        raise UserError(f"template text {text!r}: {error}; write {{{{ and }}}} for braces themselves") from None


def _own_pieces(text: str) -> list[str]:
    """What lies around and between the fields of a format: one piece more than it has fields."""
    pieces = [""]
    for literal, name, _, _ in Formatter().parse(text):
        pieces[-1] += literal
        pieces += [] if name is None else [""]
    return pieces


def _filled(text: str, values: Mapping[str, object]) -> list[str]:
    """A format's own pieces and its fields' values in turn."""
    write, parts = Formatter(), [""]
    for literal, name, spec, conversion in write.parse(text):
        parts[-1] += literal
        if name is not None:
            parts += [write.format_field(write.convert_field(values[name], conversion), spec or ""), ""]
    return parts


def _joined(first: list[str], second: list[str]) -> list[str]:
    """Two lists of pieces, the last piece of one with the first of the other."""
    return [*first[:-1], first[-1] + second[0], *second[1:]] if first else second

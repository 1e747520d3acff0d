"""YAML that people write: plain values, few enough to be looked at one by one.

In: text and the place it is from. Out: plain values. An alias stands for what it names as often as it is used: nine
lines of them make a list of a billion, which no one meant, and which every message about it would spell out.
"""

from ray_app.errors import UserError, check

VALUES = 100_000  # aliases spelled out; a taxonomy with its rules has some hundreds


def read(text: str, place: str) -> object:
    """The one document in a text. Raises UserError naming `place`."""
    import yaml

    try:
        content: object = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # digits and depth are no errors of YAML's own
        raise UserError(f"{place}: {' '.join(str(error).split())[:400]}") from None
    waiting, seen = [content], 0
    while waiting:
        value, seen = waiting.pop(), seen + 1
        check(seen <= VALUES, f"{place}: more than {VALUES:,} values, aliases spelled out; write what is meant")
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += value
    return content

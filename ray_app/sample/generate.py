"""Labelled Korean fashion-shop reviews, made up from the phrase banks in phrases.yaml.

In: how many, and a seed (the same two always give the same reviews). Out: one dict a review,
`{"review_id", "text", "labels": [{"keyword", "score", "highlights"}]}`; the overall keyword has no highlights.
A highlight is a whitespace word of the finished text, typos and punctuation included; where a review has no space
at all, it is the piece of the text that was the word. Usage: python -m ray_app.sample.generate --count 5 --seed 0
"""

import argparse
import json
import random
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped,unused-ignore]

OVERALL = "만족도"
POLITE, PLAIN, NOMINAL, FORMAL, AND, BUT, WHILE, SO = range(8)  # the columns of `endings` in phrases.yaml
LEVELS = {POLITE: 56, PLAIN: 14, NOMINAL: 18, FORMAL: 12}
WEIGHTS = (
    "디자인 13 사이즈 13 배송 12 색상 11 착용감 11 핏 11 소재 11 품질 10 "
    "가격 10 길이 11 두께 11 신축성 11 스타일 9 마감처리 10"
)
HOW_MANY = {0: 4, 1: 24, 2: 32, 3: 22, 4: 11, 5: 7}
MOODS = {(0, 2, 10, 40, 48): 45, (46, 40, 10, 4, 0): 22, (18, 26, 12, 26, 18): 33}  # weights of the scores -2 to 2
BODY = {"사이즈", "길이", "핏", "착용감"}
TURN = re.compile("(데|지만)$")

Sentence = tuple[list["Word"], int]  # its words, and the sign of its feeling (2: a filler)


@dataclass(frozen=True)
class Word:
    """One word on its way to the text, with the keywords that it is evidence for."""

    text: str
    keywords: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Clause:
    """A phrase chosen for one keyword, not yet inflected."""

    phrase: str
    keyword: str
    score: int

    @property
    def sign(self) -> int:
        return (self.score > 0) - (self.score < 0)


@cache
def bank() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("phrases.yaml").read_text(encoding="utf-8"))
    return loaded


def _habit(rng: random.Random, name: str) -> str:
    return str(rng.choice(bank()["habits"][name].split()))


def _pick(rng: random.Random, weights: dict[Any, int]) -> Any:
    return rng.choices(list(weights), weights=list(weights.values()))[0]


def _lines(block: str, tags: set[str]) -> list[str]:
    """The phrases of a block that may be said of a product with these tags, without their own tags."""
    parted = [line.rpartition(": ") for line in block.splitlines()]
    return [phrase for own, _, phrase in parted if not own or tags & set(own.split())]


def _clause(rng: random.Random, keyword: str, score: int, tags: set[str]) -> Clause | None:
    """A phrase with this keyword and score; some of the strong ones are a mild phrase with an intensifier."""
    blocks = bank()["keywords"][keyword]
    raised = [line for line in _lines(blocks[score // 2], tags) if "*" in line] if abs(score) == 2 else []
    raising = bool(raised) and rng.random() < 0.35
    if not (fitting := raised if raising else _lines(blocks[score], tags)):
        return None
    phrase = re.sub("<(.*?)>", lambda found: rng.choice(found[1].split("|")), rng.choice(fitting))
    return Clause(phrase.replace("* ", _habit(rng, "intensifiers") + " " if raising else ""), keyword, score)


def _clauses(rng: random.Random, tags: set[str]) -> list[Clause]:
    """The clauses of one review, those of one feeling side by side, so that one contrast is enough."""
    names, numbers = WEIGHTS.split()[::2], map(int, WEIGHTS.split()[1::2])
    moods, pool, found = _pick(rng, MOODS), dict(zip(names, numbers, strict=True)), list[Clause]()
    for _ in range(_pick(rng, HOW_MANY)):
        keyword = _pick(rng, pool)
        del pool[keyword]
        clause = _clause(rng, keyword, rng.choices(range(-2, 3), weights=moods)[0], tags)
        found += [clause] if clause else []
    first = 1 if rng.random() < 0.65 else -1
    return sorted(found, key=lambda clause: -first * clause.sign)


def _overall(rng: random.Random, clauses: list[Clause]) -> int:
    if not clauses:
        return rng.choices(range(-2, 3), weights=(15, 15, 12, 28, 30))[0]
    mean = sum(clause.score for clause in clauses) / len(clauses)
    return max(-2, min(2, round(mean + rng.uniform(-0.2, 0.2))))


def _split(phrase: str, keyword: str = OVERALL) -> list[Word]:
    """The words of a phrase; those between braces are evidence for the keyword."""
    words, inside = list[Word](), False
    for raw in phrase.split():
        evidence = (inside or "{" in raw) and keyword != OVERALL
        inside = (inside or "{" in raw) and "}" not in raw
        words.append(Word(raw.strip("{}"), frozenset([keyword] if evidence else [])))
    return words


def _forms(word: str, column: int) -> list[str]:
    """The surface forms of a plain-form word; none where the table has none, or the word stands as it is."""
    table = bank()["endings"]
    key = next((word[start:] for start in range(len(word)) if word[start:] in table), None)
    forms = table[key].split()[column].split("/") if key else []
    return [word.removesuffix(key or "") + form for form in forms if form != "-"]


def _particle(rng: random.Random, word: str, role: str) -> str:
    """`색/이` as the clause's place in the review wants it: a contrast takes 은/는, one more of a kind 도."""
    noun, slash, own = word.rpartition("/")
    if not slash or own not in ("이", "가"):
        return word
    topic = "은" if own == "이" else "는"
    choices = {"contrast": (topic, topic, topic, own), "also": ("도", "도", "도", own, "")}
    return noun + rng.choice(choices.get(role, (own, own, own, own, "", "", topic)))


def _render(rng: random.Random, clause: Clause, column: int, role: str = "", most: int = 3) -> list[Word]:
    """A clause as words, its last one in the form that the column says (`most`: how many variants may be used)."""
    words = _split(clause.phrase, clause.keyword)
    last = words[-1].text
    forms = (_forms(last, column) or _forms(last, PLAIN) or [last.removesuffix(".")])[:most]
    words[-1] = replace(words[-1], text=rng.choices(forms, weights=(6, 3, 1)[: len(forms)])[0])
    return [replace(word, text=_particle(rng, word.text, role)) for word in words]


def _role(clauses: list[Clause], at: int) -> str:
    if any(clause.sign != clauses[at].sign for clause in clauses[max(0, at - 1) : at + 2]):
        return "contrast"
    return "also" if at else ""


def _joint(rng: random.Random, said: list[Word], here: Clause, after: Clause) -> int | None:
    """The column that joins a clause to the next one, or None: its sentence ends. One turn a sentence is enough."""
    same = here.sign == after.sign
    earlier = _split(after.phrase)[:-1] + ([] if same else said + _split(here.phrase)[:-1])
    if len(said) > 6 or any(TURN.search(word.text) for word in earlier):
        return None
    turning = here.sign * after.sign < 0
    column = _pick(rng, {BUT: 34, WHILE: 36, None: 30} if turning else {AND: 50 if same else 12, None: 50})
    return column if column is not None and _forms(_split(here.phrase)[-1].text, column) else None


def _connective(rng: random.Random, before: Clause, here: Clause, level: int) -> list[Word]:
    """What may open a sentence that follows another one."""
    if before.sign == here.sign:
        return [Word(_habit(rng, "additions"))] if rng.random() < 0.12 and here.sign else []
    turns = "formal_turns" if level == FORMAL else "turns"
    return [Word(_habit(rng, turns))] if before.sign * here.sign and rng.random() < 0.75 else []


def _body(rng: random.Random, clauses: list[Clause], level: int, last: int) -> list[Sentence]:
    """The clauses as sentences; `last` is the column of the very last one."""
    sentences, words = list[Sentence](), list[Word]()
    for at, here in enumerate(clauses):
        if at and not words:
            words = _connective(rng, clauses[at - 1], here, level)
        joint = _joint(rng, words, here, clauses[at + 1]) if here is not clauses[-1] else last
        words = words + _render(rng, here, level if joint is None else joint, _role(clauses, at))
        if joint is None or here is clauses[-1]:
            sentences, words = [*sentences, (words, here.sign)], []
    return sentences


def _verdicts(rng: random.Random, overall: int, level: int, count: int, cause: bool = False) -> list[Sentence]:
    """Ways to say the overall feeling (`cause`: only such as may follow -서)."""
    lines = [line for line in bank()["overall"][overall].splitlines() if line.startswith("+") or not cause]
    clauses = [Clause(line.removeprefix("+"), OVERALL, overall) for line in rng.sample(lines, min(count, len(lines)))]
    return [(_render(rng, clause, level, most=2), clause.sign) for clause in clauses]


def _sentences(rng: random.Random, clauses: list[Clause], overall: int, level: int) -> list[Sentence]:
    """The clauses, and in about half of the reviews the overall feeling said before or after them."""
    if not clauses:
        return _verdicts(rng, overall, level, rng.randint(1, 2))
    last, sign = clauses[-1], (overall > 0) - (overall < 0)
    causes = _verdicts(rng, overall, level, 1, cause=True) if last.sign == sign and rng.random() < 0.2 else []
    if causes and _forms(_split(last.phrase)[-1].text, SO) and "서}" not in last.phrase:
        body = _body(rng, clauses, level, SO)
        return [*body[:-1], (body[-1][0] + causes[0][0], sign)]
    body, (verdict,) = _body(rng, clauses, level, level), _verdicts(rng, overall, level, 1)
    still = [Word("그래도")] if last.sign * sign < 0 else []
    return rng.choices((body, [*body, (still + verdict[0], sign)], [verdict, *body]), weights=(55, 33, 12))[0]


def _filled(rng: random.Random, sentences: list[Sentence], about: str, level: int, product: str) -> list[Sentence]:
    """The sentences, a third of them with a part that carries no feeling (`about`: what the first one is about)."""
    fillers, tags, (words, sign) = bank()["fillers"], set(bank()["products"][product].split()), sentences[0]
    if (dice := rng.random()) < 0.13:
        told = Clause(rng.choice(_lines(fillers["sentence"], tags)).replace("@", product), OVERALL, 0)
        at = rng.choice((0, 0, len(sentences)))
        return [*sentences[:at], (_render(rng, told, level, most=1), 2), *sentences[at:]]
    if dice > 0.35 or any(re.search(r"\d\d", word.text) or TURN.search(word.text) for word in words):
        return sentences
    lines = _lines(fillers["opening"], tags) + (_lines(fillers["body"], tags) * 2 if about in BODY else [])
    return [(_split(rng.choice(lines).replace("@", product)) + words, sign), *sentences[1:]]


def _punctuated(rng: random.Random, sentences: list[Sentence]) -> list[Word]:
    """The words of all sentences, their ends marked by one habit a review."""
    usual, spark, words = rng.choice(("", "", ".")), rng.choice((0.0, 0.3, 0.7)), list[Word]()
    for said, sign in sentences:
        mark = rng.choice(bank()["habits"]["marks"][sign].split()) if rng.random() < spark else usual
        words += [*said[:-1], replace(said[-1], text=said[-1].text + mark.strip("_"))]
    return words


@cache
def _typos(word: str) -> list[tuple[str, str]]:
    """(what is meant, what is typed) for every habit that fits a word."""
    pairs = (pair.split(":") for pair in bank()["habits"]["typos"].split())
    return [(meant, typed) for meant, typed in pairs if re.search(meant, word)]


def _mistyped(rng: random.Random, words: list[Word]) -> list[Word]:
    rate = rng.choices((0.0, 0.08, 0.3), weights=(60, 30, 10))[0]

    def typo(text: str) -> str:
        fitting = _typos(text)
        return re.sub(*rng.choice(fitting), text, count=1) if fitting and rng.random() < rate else text

    return [replace(word, text=typo(word.text)) for word in words]


def _spaced(rng: random.Random, words: list[Word]) -> list[Word]:
    """The words as the writer spaced them: words run together are one word, evidence for what either was."""
    rate, joined = rng.choices((0.0, 0.05, 0.25), weights=(60, 25, 15))[0], list[Word]()
    for word in words:
        before = joined.pop() if joined and rng.random() < rate else Word("")
        joined.append(Word(before.text + word.text, before.keywords | word.keywords))
    return joined


def _labels(clauses: list[Clause], overall: int, words: list[Word]) -> list[dict[str, Any]]:
    labels: list[dict[str, Any]] = [{"keyword": OVERALL, "score": overall}]
    for clause in clauses:
        evidence = dict.fromkeys(word.text for word in words if clause.keyword in word.keywords)
        labels.append({"keyword": clause.keyword, "score": clause.score, "highlights": list(evidence)})
    return labels


def _review(rng: random.Random) -> dict[str, Any]:
    product, own = rng.choice(list(bank()["products"].items()))
    level, clauses = _pick(rng, LEVELS), _clauses(rng, set(own.split()))
    overall, about, unspaced = _overall(rng, clauses), clauses[0].keyword if clauses else "", rng.random() < 0.04
    sentences = _filled(rng, _sentences(rng, clauses, overall, level), about, level, product)
    words = _mistyped(rng, _punctuated(rng, sentences))
    words = words if unspaced else _spaced(rng, words)
    text = ("" if unspaced else " ").join(word.text for word in words)
    return {"text": text, "labels": _labels(clauses, overall, words)}


def generate_reviews(count: int, seed: int) -> list[dict[str, Any]]:
    """`count` labelled reviews, no two with the same text."""
    rng, found = random.Random(seed), dict[str, dict[str, Any]]()
    while len(found) < count:
        review = _review(rng)
        found.setdefault(review["text"], review)
    return [{"review_id": f"made-{seed}-{at}", **review} for at, review in enumerate(found.values())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for review in generate_reviews(arguments.count, arguments.seed):
        print(json.dumps(review, ensure_ascii=False))


if __name__ == "__main__":
    main()

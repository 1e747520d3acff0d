"""Labeled Korean fashion-shop reviews, generated from the phrase banks in phrases.yaml.

In: a count and a seed (the same two always give the same reviews). Out: one dict per review,
`{"review_id", "text", "labels": [{"keyword", "score", "highlights"}]}`; the overall keyword has no highlights.
A highlight is a whitespace word of the finished text, typos and punctuation included; where a review has no spaces
at all, it is the piece of the text that was the word. Usage: python -m ray_app.sample.generate --count 5 --seed 0
"""

import argparse
import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple, TypeVar

from ray_app.sample import GeneratedReview, SampleLabel
from ray_app.sample.phrase_bank import FILLER, Form, HabitName, fitting_phrases, habit, phrase_bank, surface_forms

OVERALL = "만족도"
LEVELS = {Form.POLITE: 56, Form.PLAIN: 14, Form.NOMINAL: 18, Form.FORMAL: 12}  # speech levels and their weights
KEYWORD_WEIGHTS = (
    "디자인 13 사이즈 13 배송 12 색상 11 착용감 11 핏 11 소재 11 품질 10 "
    "가격 10 길이 11 두께 11 신축성 11 스타일 9 마감처리 10"
)
CLAUSE_COUNTS = {0: 4, 1: 24, 2: 32, 3: 22, 4: 11, 5: 7}  # keywords per review and their weights
MOODS = {(0, 2, 10, 40, 48): 45, (46, 40, 10, 4, 0): 22, (18, 26, 12, 26, 18): 33}  # weights of the scores -2 to 2
CONTRASTS: dict[Form | None, int] = {Form.BUT: 34, Form.WHILE: 36, None: 30}  # how clauses are joined; None: not
CONTINUATIONS: dict[Form | None, int] = {Form.AND: 50, None: 50}  # of the same feeling
CHANGES: dict[Form | None, int] = {Form.AND: 12, None: 50}  # to or from a neutral clause
BODY_KEYWORDS = {"사이즈", "길이", "핏", "착용감"}
CONTRAST_ENDING = re.compile("(데|지만)$")

T = TypeVar("T")


@dataclass(frozen=True)
class Word:
    """One word of the text to be, with the keywords that it is evidence for."""

    text: str
    keywords: frozenset[str] = frozenset()


class Sentence(NamedTuple):
    """Words, and the sign of their feeling: -1, 0, 1 or FILLER."""

    words: list[Word]
    sign: int


@dataclass(frozen=True)
class Clause:
    """A phrase chosen for one keyword, not yet inflected."""

    phrase: str
    keyword: str
    score: int

    @property
    def sign(self) -> int:
        """-1, 0 or 1."""
        return _sign(self.score)


def _sign(score: int) -> int:
    return (score > 0) - (score < 0)


def _pick(rng: random.Random, weights: Mapping[T, int]) -> T:
    return rng.choices(list(weights), weights=list(weights.values()))[0]


def _clause(rng: random.Random, keyword: str, score: int, tags: set[str]) -> Clause | None:
    """A phrase with this keyword and score; some strong ones are a mild phrase with an intensifier."""
    blocks = phrase_bank()["keywords"][keyword]
    mild = [line for line in fitting_phrases(blocks[score // 2], tags) if "*" in line] if abs(score) == 2 else []
    intensified = bool(mild) and rng.random() < 0.35
    if not (fitting := mild if intensified else fitting_phrases(blocks[score], tags)):
        return None
    phrase = re.sub("<(.*?)>", lambda match: rng.choice(match[1].split("|")), rng.choice(fitting))
    return Clause(phrase.replace("* ", habit(rng, "intensifiers") + " " if intensified else ""), keyword, score)


def _clauses(rng: random.Random, tags: set[str]) -> list[Clause]:
    """The clauses of one review, those of one feeling side by side, so that one contrast is enough."""
    names, weights = KEYWORD_WEIGHTS.split()[::2], map(int, KEYWORD_WEIGHTS.split()[1::2])
    moods, remaining, clauses = _pick(rng, MOODS), dict(zip(names, weights, strict=True)), list[Clause]()
    for _ in range(_pick(rng, CLAUSE_COUNTS)):
        keyword = _pick(rng, remaining)
        del remaining[keyword]
        clause = _clause(rng, keyword, rng.choices(range(-2, 3), weights=moods)[0], tags)
        clauses += [clause] if clause else []
    first = 1 if rng.random() < 0.65 else -1
    return sorted(clauses, key=lambda clause: -first * clause.sign)


def _overall(rng: random.Random, clauses: list[Clause]) -> int:
    """The overall score: about the mean of the clauses."""
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


def _particle(rng: random.Random, word: str, role: str) -> str:
    """`색/이` with the particle that the clause's role asks for: 은/는 for a contrast, 도 for one more of a kind."""
    noun, slash, subject = word.rpartition("/")
    if not slash or subject not in ("이", "가"):
        return word
    topic = "은" if subject == "이" else "는"
    choices = {"contrast": (topic, topic, topic, subject), "also": ("도", "도", "도", subject, "")}
    return noun + rng.choice(choices.get(role, (subject, subject, subject, subject, "", "", topic)))


def _render(rng: random.Random, clause: Clause, form: Form, role: str = "", variants: int = 3) -> list[Word]:
    """A clause as words, the last one in this form, in one of its first `variants` spellings."""
    words = _split(clause.phrase, clause.keyword)
    last = words[-1].text
    spellings = (surface_forms(last, form) or surface_forms(last, Form.PLAIN) or [last.removesuffix(".")])[:variants]
    words[-1] = replace(words[-1], text=rng.choices(spellings, weights=(6, 3, 1)[: len(spellings)])[0])
    return [replace(word, text=_particle(rng, word.text, role)) for word in words]


def _role(clauses: list[Clause], index: int) -> str:
    """What a clause is to its neighbors: a contrast, one more of a kind, or nothing."""
    if any(clause.sign != clauses[index].sign for clause in clauses[max(0, index - 1) : index + 2]):
        return "contrast"
    return "also" if index else ""


def _connecting_form(rng: random.Random, before: list[Word], clause: Clause, following: Clause) -> Form | None:
    """The form that joins a clause to the following one; None ends the sentence.

    `before` are the sentence's earlier words. A sentence has at most one contrast.
    """
    same = clause.sign == following.sign
    others = _split(following.phrase)[:-1] + ([] if same else before + _split(clause.phrase)[:-1])
    if len(before) > 6 or any(CONTRAST_ENDING.search(word.text) for word in others):
        return None
    contrast = clause.sign * following.sign < 0
    form = _pick(rng, CONTRASTS if contrast else CONTINUATIONS if same else CHANGES)
    return form if form is not None and surface_forms(_split(clause.phrase)[-1].text, form) else None


def _opening(rng: random.Random, previous: Clause, clause: Clause, level: Form) -> list[Word]:
    """The conjunction, if any, that opens a sentence after another one."""
    if previous.sign == clause.sign:
        return [Word(habit(rng, "additions"))] if rng.random() < 0.12 and clause.sign else []
    turns: HabitName = "formal_turns" if level == Form.FORMAL else "turns"
    return [Word(habit(rng, turns))] if previous.sign * clause.sign and rng.random() < 0.75 else []


def _body(rng: random.Random, clauses: list[Clause], level: Form, last_form: Form) -> list[Sentence]:
    """The clauses as sentences; the very last one is in `last_form`."""
    sentences, words = list[Sentence](), list[Word]()
    for i, clause in enumerate(clauses):
        if i and not words:
            words = _opening(rng, clauses[i - 1], clause, level)
        is_last = clause is clauses[-1]
        form = last_form if is_last else _connecting_form(rng, words, clause, clauses[i + 1])
        words = words + _render(rng, clause, level if form is None else form, _role(clauses, i))
        if form is None or is_last:
            sentences, words = [*sentences, Sentence(words, clause.sign)], []
    return sentences


def _verdicts(rng: random.Random, overall: int, level: Form, count: int, cause: bool = False) -> list[Sentence]:
    """Ways to state the overall feeling (`cause`: only those that may follow -서)."""
    lines = [line for line in phrase_bank()["overall"][overall].splitlines() if line.startswith("+") or not cause]
    clauses = [Clause(line.removeprefix("+"), OVERALL, overall) for line in rng.sample(lines, min(count, len(lines)))]
    return [Sentence(_render(rng, clause, level, variants=2), clause.sign) for clause in clauses]


def _sentences(rng: random.Random, clauses: list[Clause], overall: int, level: Form) -> list[Sentence]:
    """The clauses, and in about half of the reviews the overall feeling before or after them."""
    if not clauses:
        return _verdicts(rng, overall, level, rng.randint(1, 2))
    last, sign = clauses[-1], _sign(overall)
    causes = _verdicts(rng, overall, level, 1, cause=True) if last.sign == sign and rng.random() < 0.2 else []
    if causes and surface_forms(_split(last.phrase)[-1].text, Form.SO) and "서}" not in last.phrase:
        body = _body(rng, clauses, level, Form.SO)
        return [*body[:-1], Sentence(body[-1].words + causes[0].words, sign)]
    body, (verdict,) = _body(rng, clauses, level, level), _verdicts(rng, overall, level, 1)
    still = [Word("그래도")] if last.sign * sign < 0 else []
    after = Sentence(still + verdict.words, sign)
    return rng.choices((body, [*body, after], [verdict, *body]), weights=(55, 33, 12))[0]


def _add_filler(rng: random.Random, sentences: list[Sentence], about: str, level: Form, product: str) -> list[Sentence]:
    """The sentences, a third of them with a part that carries no feeling (`about`: keyword of the first one)."""
    bank = phrase_bank()
    fillers, tags, (words, sign) = bank["fillers"], set(bank["products"][product].split()), sentences[0]
    if (dice := rng.random()) < 0.13:
        filler = Clause(rng.choice(fitting_phrases(fillers["sentence"], tags)).replace("@", product), OVERALL, 0)
        at = rng.choice((0, 0, len(sentences)))
        return [*sentences[:at], Sentence(_render(rng, filler, level, variants=1), FILLER), *sentences[at:]]
    if dice > 0.35 or any(re.search(r"\d\d", word.text) or CONTRAST_ENDING.search(word.text) for word in words):
        return sentences
    openings = fitting_phrases(fillers["opening"], tags)
    openings += fitting_phrases(fillers["body"], tags) * 2 if about in BODY_KEYWORDS else []
    return [Sentence(_split(rng.choice(openings).replace("@", product)) + words, sign), *sentences[1:]]


def _punctuated(rng: random.Random, sentences: list[Sentence]) -> list[Word]:
    """The words of all sentences; how they end is one habit per review."""
    usual, liveliness, punctuated = rng.choice(("", "", ".")), rng.choice((0.0, 0.3, 0.7)), list[Word]()
    marks = phrase_bank()["habits"]["marks"]
    for words, sign in sentences:
        mark = rng.choice(marks[sign].split()) if rng.random() < liveliness else usual
        punctuated += [*words[:-1], replace(words[-1], text=words[-1].text + mark.strip("_"))]
    return punctuated


@cache
def _typos(word: str) -> list[tuple[str, str]]:
    """(pattern, what is typed for it) of every typo that fits a word."""
    pairs = (pair.split(":") for pair in phrase_bank()["habits"]["typos"].split())
    return [(pattern, typed) for pattern, typed in pairs if re.search(pattern, word)]


def _mistyped(rng: random.Random, words: list[Word]) -> list[Word]:
    rate = rng.choices((0.0, 0.08, 0.3), weights=(60, 30, 10))[0]

    def typo(text: str) -> str:
        fitting = _typos(text)
        return re.sub(*rng.choice(fitting), text, count=1) if fitting and rng.random() < rate else text

    return [replace(word, text=typo(word.text)) for word in words]


def _spaced(rng: random.Random, words: list[Word]) -> list[Word]:
    """The words as the writer spaced them: words run together become one, which is evidence for what either was."""
    rate, spaced = rng.choices((0.0, 0.05, 0.25), weights=(60, 25, 15))[0], list[Word]()
    for word in words:
        before = spaced.pop() if spaced and rng.random() < rate else Word("")
        spaced.append(Word(before.text + word.text, before.keywords | word.keywords))
    return spaced


def _labels(clauses: list[Clause], overall: int, words: list[Word]) -> list[SampleLabel]:
    labels: list[SampleLabel] = [{"keyword": OVERALL, "score": overall}]
    for clause in clauses:
        evidence = dict.fromkeys(word.text for word in words if clause.keyword in word.keywords)
        labels.append({"keyword": clause.keyword, "score": clause.score, "highlights": list(evidence)})
    return labels


def _review(rng: random.Random) -> tuple[str, list[SampleLabel]]:
    """The text and the labels of one review."""
    product, tags = rng.choice(list(phrase_bank()["products"].items()))
    level, clauses = _pick(rng, LEVELS), _clauses(rng, set(tags.split()))
    overall, about, unspaced = _overall(rng, clauses), clauses[0].keyword if clauses else "", rng.random() < 0.04
    sentences = _add_filler(rng, _sentences(rng, clauses, overall, level), about, level, product)
    words = _mistyped(rng, _punctuated(rng, sentences))
    words = words if unspaced else _spaced(rng, words)
    return ("" if unspaced else " ").join(word.text for word in words), _labels(clauses, overall, words)


def generate_reviews(count: int, seed: int) -> list[GeneratedReview]:
    """`count` labeled reviews, no two with the same text."""
    rng, labels_of = random.Random(seed), dict[str, list[SampleLabel]]()
    while len(labels_of) < count:
        text, labels = _review(rng)
        labels_of.setdefault(text, labels)
    return [
        {"review_id": f"made-{seed}-{i}", "text": text, "labels": labels}
        for i, (text, labels) in enumerate(labels_of.items())
    ]


def main() -> None:
    """Prints generated reviews, one JSON object per line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for review in generate_reviews(arguments.count, arguments.seed):
        print(json.dumps(review, ensure_ascii=False))


if __name__ == "__main__":
    main()

"""Errors of the library in the page's language. In: an error of one line. Out: the line, or what it says in Korean.

What is not known here is shown as it is, with what to do about it left in English: a wrong translation would mislead.
"""

import re

from ray_app.errors import UserError
from ray_app.ui.translations import Translate

KOREAN = (  # what a line matches, and what it says
    (
        r"(?P<x>.+): no analyses there.*",
        "{x}: 분석 결과가 없습니다. 폴더를 확인하거나 jobs.analyze로 분석하세요.",
    ),
    (
        r"(?P<x>.+): these are not analyses.*",
        "{x}: 분석 결과가 아닙니다(findings 열이 없음). jobs.analyze의 --output 폴더를 고르세요.",
    ),
    (
        r"(?P<x>.+): not reachable.*",
        "{x}: 연결할 수 없습니다. jobs.serve가 켜져 있는지, 주소가 맞는지 확인하세요.",
    ),
    (
        r"(?P<x>.+): answers, but is not Nunchi's endpoint",
        "{x}: 응답은 하지만 Nunchi 엔드포인트가 아닙니다. 주소를 확인하세요.",
    ),
    (
        r"(?P<x>https?://.+?): (?:401\b|a token is needed\b).*",
        "{x}: 엔드포인트의 토큰이 없거나 틀립니다. NUNCHI_TOKEN을 확인하세요.",
    ),
    (
        r"(?P<x>.+): cannot be read \((?P<y>.*)\)",
        "{x}: 읽을 수 없습니다. 파일이 지워졌거나 손상되었는지 확인하세요 ({y}).",
    ),
    (
        r"(?P<x>.+): bundle\.json is damaged(?P<y>.*)",
        "{x}: bundle.json이 손상되었습니다. 번들을 다시 복사하세요.{y}",
    ),
    (
        r"(?P<x>.+): no bundle\.json there.*",
        "{x}: 번들이 없습니다. jobs.train으로 만드세요.",
    ),
    (
        r"--against (?P<x>.+): the analyses kept no dates.*",
        "{x}: 날짜 열이 없어 비교할 수 없습니다. --keep date로 다시 분석하세요.",
    ),
    (
        r"--against (?P<x>.+): (?P<y>[\d,]+) reviews on its days, (?P<z>[\d,]+) later.*",
        "{x}: 이 기간의 리뷰가 {y}건, 그 뒤가 {z}건뿐입니다. 다른 기간을 고르세요.",
    ),
    (
        r"(?P<x>.+): does not belong to the report.*",
        "{x}: 옆에 있는 보고서의 것이 아닙니다. jobs.evaluate를 다시 실행하세요.",
    ),
    (
        r"(?P<x>.+): no reviews in these analyses",
        "{x}: 분석된 리뷰가 없습니다.",
    ),
    (
        r"(?P<x>.+): (?:not JSON|damaged).*",
        "{x}: 손상되었거나 JSON이 아닌 파일입니다.",
    ),
    (
        r"(?P<x>.+): (?:Permission denied|.*Read-only file system).*",
        "{x}: 쓸 권한이 없습니다. 다른 폴더로 페이지를 시작하세요.",
    ),
)


def shown(error: UserError | OSError, say: Translate) -> str:
    """One line."""
    line = " ".join(str(error).split())
    if say("language") != "0":
        return line
    for pattern, korean in KOREAN:
        if match := re.fullmatch(pattern, line):
            for name in ("x", "y", "z"):
                korean = korean.replace(f"{{{name}}}", str(match.groupdict().get(name) or ""))
            return korean
    return line

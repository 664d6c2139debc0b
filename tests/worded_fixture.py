"""Sentences of findings as Python words them: what the page's own wording is checked against.

``PYTHONPATH=. python tests/worded_fixture.py`` writes them anew; a test holds that they are what this would write.
"""

import json
import random
import string
from pathlib import Path

from i2am_core import COMPARED_SENTENCES, SENTENCES

ROOT = Path(__file__).resolve().parent
FIXTURE = ROOT / "web" / "fixtures" / "worded.json"
CHINESE = ROOT.parent / "web" / "viewer" / "findings_zh.mjs"
TEMPLATES = {**SENTENCES, **COMPARED_SENTENCES}
NUMBERS = (0, 0.005, 0.125, 1e-5, 99.5, 1234.5, 0.995)
# In the middle of two, or next to it; where the exponent of a rounded number is another one; negative ones
AWKWARD = (
    *(*NUMBERS, -0.0, -0.125, 0.375, 0.5, 1.5, 2.5, 0.25, 2.675, 1.005, 0.045, 9.95, 9.995, 0.0995, 0.00099995, 1e-4),
    *(9.9999e-5, 12.5, 10, 100, 1e5, 123456789.0, 1e22, 1.7e-300, 5e-324, 0.1 + 0.2, -1e-9, 1 / 3, 65504.0),
)
DRAWN = 40


def chinese() -> dict[str, dict[str, str]]:
    """The Chinese words of findings."""
    words: dict[str, dict[str, str]] = json.loads(CHINESE.read_text().partition("export default ")[2])
    return words


def fields(template: str) -> list[tuple[str, str]]:
    """The names of the values in a template, and how each is formatted."""
    return [(name, spec or "") for _, name, spec, _ in string.Formatter().parse(template) if name is not None]


def values_of(template: str, number: float) -> dict[str, float | str]:
    """This number for all that are formatted, and words for the others."""
    return {name: number if spec else f"<{name}>" for name, spec in fields(template)}


def build() -> str:
    """Every template in both languages; and numbers in each of their formats."""
    specs = sorted({spec for template in TEMPLATES.values() for _, spec in fields(template) if spec})
    draw = random.Random(1)
    drawn = [draw.choice([1, 0.001, 1000]) * draw.random() for _ in range(DRAWN)]
    drawn += [draw.randrange(2000) / 8 for _ in range(DRAWN)]  # many of them in the middle of two
    sentences = []
    for n, (key, template) in enumerate(TEMPLATES.items()):
        for m, number in enumerate(NUMBERS):
            values = values_of(template, number)
            sentences.append([template, values, template.format(**values)])
            if m == n % len(NUMBERS):
                words = chinese()["sentences"][key]
                sentences.append([words, values, words.format(**values)])
    numbers = {spec: [[x, format(x, spec)] for x in (*AWKWARD, *drawn)] for spec in specs}
    return json.dumps({"sentences": sentences, "numbers": numbers}, ensure_ascii=False)


if __name__ == "__main__":
    FIXTURE.write_text(build() + "\n")

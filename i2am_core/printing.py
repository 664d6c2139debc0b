"""Text from elsewhere, such as names in a file, as it may be printed: what a terminal would obey is made visible."""

import re
from collections.abc import Iterable

NAME = 60
"""How many letters of a name fit where it is one of several things in a line."""

# Control characters, line separators, what turns the direction of writing, and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, longest: int | None = None) -> str:
    """The text on one line, each character that is no letter, sign or space as ``\\x1b``; cut in its middle.

    So of a sentence that repeats a long text, its beginning and what to do are there. ``longest`` counts letters.
    """
    if longest is not None and len(text) > longest:
        half = (longest - 3) // 2
        text = f"{text[:half]}...{text[len(text) - half :]}"
    return _UNPRINTABLE.sub(lambda match: _escaped(match[0]), text)


def printable_lines(text: str) -> str:
    """Several lines of text, each of them printable."""
    return "\n".join(printable(line) for line in text.split("\n"))


def listed(things: Iterable[object], most: int | None = None, last: str = "and") -> str:
    """Things as a person lists them: "a, b and c". Of more than ``most``, the last in the list is how many more."""
    names = [str(thing) for thing in things]
    if most is not None and len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    return f" {last} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"

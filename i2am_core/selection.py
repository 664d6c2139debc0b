"""Selections that a person types: ``all``, ``0-4,10``, or for named things ``output*``."""

from collections.abc import Sequence
from fnmatch import fnmatchcase


def parse_selection(text: str, count: int, what: str, names: Sequence[str] = ()) -> list[int]:
    """Indices named by ``text``, ascending and without repeats.

    ``count`` things called ``what`` (a plural: "steps") exist, numbered from 0; ``names`` may name them, and
    ``*`` matches any part of a name. Raises ValueError for what cannot be read or does not exist.
    """
    text = text.strip()
    if text.lower() in ("", "all"):
        return list(range(count))
    chosen: set[int] = set()
    for part in (part.strip() for part in text.split(",")):
        if part:
            chosen.update(_parse_part(part, count, what, names))
    if not chosen:
        raise ValueError(f"'{text}' selects no {what}: write 'all', or numbers such as '0-4,10'.")
    return sorted(chosen)


def _parse_part(part: str, count: int, what: str, names: Sequence[str]) -> list[int]:
    first, dash, last = (x.strip() for x in part.partition("-"))
    if first.isdecimal() and (last.isdecimal() or not dash):
        low, high = int(first), int(last or first)
        if low > high:
            raise ValueError(f"'{part}' in the selection of {what} runs backwards: write '{high}-{low}'.")
        if high >= count:
            raise ValueError(f"there are {count} {what}, numbered 0 to {count - 1}: '{part}' is out of range.")
        return list(range(low, high + 1))
    named = [i for i, name in enumerate(names) if fnmatchcase(name.lower(), part.lower())]
    if named:
        return named
    hint = f" or a name such as '{names[0]}'" if names else ""
    raise ValueError(f"cannot read '{part}' in the selection of {what}: write 'all', numbers such as '0-4,10'{hint}.")

"""Checks of values that come from a file: each gives the value, or raises ValueError with what was got and expected.

``load`` makes a BadFile of it.
"""

import math
from typing import Any

from torch import Tensor

from ..printing import NAME, printable
from ..tokens import TokenGrid

LETTERS = 1_000_000  # of a name or a note: nobody writes so much, and no more can harm
COUNT = 2**53  # the largest whole number that every reader of JSON knows exactly
CELLS = 2**26  # of a grid: eight thousand by eight thousand
LARGEST = 1e6  # of a value of a map: shares are parts of the attention, times a gain that a person has typed
DETAIL = 4096  # more heads, or pixels of one cell against another, than any model has


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def worded(value: Any) -> str:
    """A value in an error's sentence: short, whatever it is."""
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    if isinstance(value, str):
        return f"'{printable(value, NAME)}'"
    return printable(str(value), NAME)


def mapping(value: Any, what: str) -> dict[str, Any]:
    check(isinstance(value, dict), f"{what} is {worded(value)}, where an object is expected")
    return dict(value)


def sequence(value: Any, what: str, length: int | None = None) -> list[Any]:
    check(isinstance(value, list), f"{what} is {worded(value)}, where a list is expected")
    check(length is None or len(value) == length, f"{what} is {worded(value)}, where a list of {length} is expected")
    return list(value)


def member(of: dict[str, Any], key: str, what: str) -> Any:
    check(key in of, f"{what} has no '{key}'")
    return of[key]


def text(value: Any, what: str, most: int = LETTERS) -> str:
    check(isinstance(value, str), f"{what} is {worded(value)}, where text is expected")
    check(len(value) <= most, f"{what} has {len(value)} letters, where {most} are the most")
    return str(value)


def boolean(value: Any, what: str) -> bool:
    check(isinstance(value, bool), f"{what} is {worded(value)}, where true or false is expected")
    return bool(value)


def count(value: Any, what: str, least: int = 1, most: int = COUNT) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    check(
        whole and least <= value <= most, f"{what} is {worded(value)}, where a count from {least} to {most} is expected"
    )
    return int(value)


def number(value: Any, what: str) -> float:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    check(real and math.isfinite(value), f"{what} is {worded(value)}, where a number is expected")
    return float(value)


def grid(value: Any, what: str) -> TokenGrid:
    """A grid from its height and width, and of a video the number of frames."""
    sides = sequence(value, what)
    check(len(sides) in (2, 3), f"{what} is {worded(value)}, where height and width are expected")
    height, width, *frames = (count(side, what) for side in sides)
    result = TokenGrid(height, width, *frames)
    check(result.cells <= CELLS, f"{what} has {result.cells} cells, where {CELLS} are the most")
    return result


def grid_or_none(value: Any, what: str) -> TokenGrid | None:
    return None if value is None else grid(value, what)


def check_values(name: str, values: Tensor, low: float, high: float) -> Tensor:
    least, most = (end.item() for end in values.aminmax())  # one that is not a number makes both ends such
    check(least == least, f"{name} holds values that are not numbers")
    check(
        low <= least and most <= high,
        f"{name} goes from {least:.3g} to {most:.3g}, where {low:g} to {high:g} is expected",
    )
    return values

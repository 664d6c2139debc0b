"""The core's errors as sentences for users of the nodes: which widget it is about, and what to do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..i2am_core import errors, printable
from .comfy.refusal import LONGEST

NO_PAIRS = (
    "no pair maps were kept for the selected layers: set pair_maps of I2AM Capture to 'inpainting mask' or "
    "'everywhere' (and raise budget_mb if the summary says that they did not fit), then sample again. Areas of "
    "conditionings and context windows keep none."
)
OUTSIDE = (
    "no pair maps were kept for this region: it lies outside the inpainting mask. Choose a region inside it, or set "
    "pair_maps of I2AM Capture to 'everywhere' and sample again."
)


@contextmanager
def in_words() -> Iterator[None]:
    """In a with statement or as a decorator: errors of the core become a ValueError with a sentence for the user."""
    try:
        yield
    except errors.AttributionError as error:
        raise ValueError(words(error)) from error


@contextmanager
def of_system_in_words(what: str) -> Iterator[None]:
    """In a with statement: what the system says of files becomes a ValueError; ``what`` could not be done."""
    try:
        yield
    except OSError as error:
        reason = printable(error.strerror or str(error))
        sentence = f"{printable(what, 200)} ({reason}): see to that, or choose another place, and queue again."
        raise ValueError(sentence) from error


def words(error: errors.AttributionError) -> str:
    """One sentence or two: that of ``WORDS``, or the core's own where it names no widget."""
    word = WORDS.get(type(error))
    return printable(str(error) if word is None else word(error), LONGEST)


def _axis(error: errors.UnresolvedAxis) -> str:
    if error.pairs:
        return (
            f"pair maps are kept as means over steps and heads, so {error.axis} '{error.text}' are not resolved "
            "here: use 'all' for both. Layers can be chosen."
        )
    if error.within:
        heads = f"heads '{error.text}'" if error.text else "single heads"
        return (
            f"{heads} are not resolved in single {error.within}: budget_mb was enough for the mean of each head over "
            f"all {error.within}. Select all {error.within}, or all heads, or raise budget_mb and sample again."
        )
    if error.axis == "steps":
        return (
            f"steps '{error.text}' are not resolved: within budget_mb this attribution kept the groups "
            f"{', '.join(error.groups)}. Select whole groups, or raise budget_mb and sample again."
        )
    if error.text:
        return (
            f"heads are not resolved here, only their mean fitted budget_mb: write 'all', not '{error.text}', or "
            "raise budget_mb and sample again."
        )
    return (
        "heads are not resolved in this attribution: only their mean fitted budget_mb. Raise it and sample again, "
        "or choose another level."
    )


def _layout(error: errors.NoLayout) -> str:
    if error.part:
        return str(error)
    return (
        f"reference {error.reference} ('{error.name}') has {error.tokens} tokens without a spatial layout, so there is "
        "no generated-to-reference map: use the direction 'reference to generated'."
    )


def _file(error: errors.BadFile) -> str:
    name = printable(error.name)
    if error.problem == "missing":
        return f"there is no file {name}: choose one that I2AM Save wrote."
    if error.problem == "foreign":
        return f"{name} is a safetensors file, but not an I2AM attribution: choose one that I2AM Save wrote."
    if error.problem == "no file":
        return f"{name} is a folder, a pipe or a device, and not a file: choose one that I2AM Save wrote."
    if error.problem == "too large":
        return f"{name} is too large ({printable(error.detail)}): lower budget_mb of I2AM Capture, and sample again."
    return str(error)


WORDS: dict[type[errors.AttributionError], Callable[[Any], str]] = {
    errors.UnresolvedAxis: _axis,
    errors.NoLayout: _layout,
    errors.NoPairMaps: lambda error: OUTSIDE if error.outside else NO_PAIRS,
    errors.EmptyRegion: lambda error: "the region is empty: paint the part of the image that the map is to be about.",
    errors.OnlyOnPicture: lambda error: (
        "level 'reference' compares references on the picture that they act in: use the direction "
        "'reference to generated', or choose one reference and another level."
    ),
    errors.BadFile: _file,
}

"""Marks on a conditioning that say which of its tokens came from a reference image.

ComfyUI copies a conditioning's dictionary all the way to the sampler, so a key of our own arrives there.
Nodes that append tokens (ConditioningConcat) keep the positions of what was there before.
"""

from collections.abc import Mapping
from typing import Any

from ...i2am_core.tokens import TokenGrid, TokenGroup, span

KEY = "i2am_references"


def tag(name: str, start: int, count: int, grid: tuple[int, int] | None) -> dict[str, Any]:
    """A plain dictionary, as conditionings hold: ``count`` tokens from ``start``, on ``grid`` (height, width)."""
    return {"name": name, "start": start, "count": count, "grid": grid}


def tagged(conditioning: Mapping[str, Any]) -> list[TokenGroup]:
    """The references that a conditioning is tagged with, in order."""
    return [
        span(t["name"], t["start"], None if t["grid"] is None else TokenGrid(*t["grid"]), t["count"])
        for t in conditioning.get(KEY, ())
    ]

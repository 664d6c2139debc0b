"""What every reference mechanism answers: does this attention call read a reference, and where?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ....i2am_core.attribution import Layer
from ....i2am_core.tokens import Index, TokenGrid, TokenGroup


@dataclass(frozen=True)
class CallSite:
    """One attention call of the denoiser, as ComfyUI's override sees it."""

    layer: str
    role: str  # as ComfyUI's own hooks announced it: "attn1", "attn2", "changed attn2" (by another pack); else ""
    queries: int
    keys: int
    heads: int
    grid: TokenGrid | None  # of the feature map that asks, where the model tells it


@dataclass(frozen=True)
class Chunk:
    """The rows of a batch that belong to one conditioning, and that conditioning's dictionary."""

    rows: slice
    conditioning: Mapping[str, Any]


@dataclass(frozen=True)
class Probe:
    """A call that reads references: its layer, the rows that are the picture, the columns that count."""

    layer: Layer
    queries: Index
    keys: slice
    references: tuple[TokenGroup, ...]
    note: str = ""  # what a person should know about this reading, for the summary


@dataclass(frozen=True)
class Skip:
    """A call that is not captured, and why, in words for a person."""

    reason: str


class Source(Protocol):
    """One way of conditioning on a reference. ``name`` is its entry in I2AM Capture's ``mechanism``."""

    name: str

    def probe(self, site: CallSite, chunk: Chunk) -> Probe | Skip:
        """Prove where the references are in this call, or say why it is skipped."""
        ...

"""One run of a sampler, as a Capture remembers it: what it made, which node made it, and its maps while there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ...i2am_core.attribution import Attribution
from ...i2am_core.regions import has_aspect_of
from ...i2am_core.tokens import TokenGrid
from .origin import GraphNode, Origin
from .tags import fingerprint

# Why a run has no maps: what follows "its maps".
DROPPED = "were dropped to stay within budget_mb, because later runs of the same I2AM Capture needed the memory"
FAILED = "could not be finished ({})"
FORGOTTEN = "are not kept any more, since many runs came after it"
SEVERAL = "I2AM cannot capture a run on several latents at once, as of a video with its sound"


@dataclass
class Run:
    """``digests`` are of the latents that it made; ``items`` are of the pictures of its batch, with their numbers."""

    origin: Origin | None  # None where it is not known
    digests: frozenset[str] = frozenset()
    items: Mapping[str, int] = field(default_factory=dict)
    attribution: Attribution | None = None
    why: str = ""  # it has no attribution: what follows "its maps"
    number: int = 0  # among all runs of the capture
    position: int = 0  # among the runs of its node in its queue
    about: str = ""
    grid: TokenGrid | None = None  # of the latent

    def __post_init__(self) -> None:
        if self.attribution is not None:
            self.about, self.grid = _about(self.attribution), self.attribution.grid

    @property
    def node_in_queue(self) -> tuple[str, GraphNode] | None:
        """What the runs of one execution of a node share."""
        return None if self.origin is None else (self.origin.queue, self.origin.node)

    def replaces(self, other: "Run") -> bool:
        """Whether the other, of the same latent, is of no use any more: two runs of one node may make the same."""
        again = self.origin is not None and self.node_in_queue == other.node_in_queue
        return bool(self.digests & other.digests) and not again

    def has_shape_of(self, image: Tensor) -> bool:
        """Whether its latent has the shape of pictures ``[n, H, W, C]``, to within a cell; True where it is unknown."""
        return self.grid is None or has_aspect_of(image[..., 0], self.grid)

    def without_maps(self, why: str) -> "Run":
        """What is left of it."""
        return replace(self, attribution=None, why=why)


def digests_of(output: Tensor) -> frozenset[str]:
    """Fingerprints of the latent as it is, and as it is after ComfyUI has stored it in half precision."""
    return frozenset(fingerprint(output.to(dtype)) for dtype in (torch.float32, torch.float16, torch.bfloat16))


def ended_with(latents: Sequence[Tensor]) -> tuple[frozenset[str], ...]:
    """Of each picture of a batch its fingerprints in the latents that a run made, in any precision that they may have.

    It is what an attribution says of how its run ``ended``.
    """
    pictures = range(max((len(latent) for latent in latents), default=0))
    return tuple(frozenset().union(*(digests_of(latent[n : n + 1]) for latent in latents)) for n in pictures)


def items_of(ended: Sequence[frozenset[str]]) -> dict[str, int]:
    """The number in the batch of each fingerprint; the first of pictures that are alike."""
    items: dict[str, int] = {}
    for number, digests in enumerate(ended):
        for digest in digests:
            items.setdefault(digest, number)
    return items


def _about(attribution: Attribution) -> str:
    steps, references = attribution.steps, len(attribution.references)
    size = f"a latent of {attribution.grid}" + (f" x {attribution.items} pictures" if attribution.items > 1 else "")
    return f"{size}, {steps} step{'s' * (steps != 1)}, {references} reference{'s' * (references != 1)}"

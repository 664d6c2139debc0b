"""Which maps the widgets of Maps and Compare name, and of which picture they are."""

from dataclasses import dataclass
from typing import Literal

import torch
from comfy.model_management import get_total_memory

from .. import i2am_core as core
from ..i2am_core import Attribution, Direction, Level, MapKind, Normalization, Route, Selection
from .selections import EFFECT, owner_of
from .wording import check_attention, check_regions

BYTES = 28  # of the outputs of Maps, for each pixel of a map: seven numbers


@dataclass(frozen=True)
class WantedMaps:
    """Maps of attention in a normalization, or of effects."""

    side: Direction
    level: Level
    normalization: Normalization | Literal["effect"]
    time_groups: int = 5
    effect_of: str = "reference"
    through: Route = "everything"

    @property
    def of_effects(self) -> bool:
        """Whether they are of what was changed, in latent units."""
        return self.normalization == EFFECT

    @property
    def blocks(self) -> bool:
        """Whether they are of regions, which say nothing of what lies between."""
        return self.of_effects and self.side == "g2r"

    @property
    def sums(self) -> bool:
        """Whether what counts is the sum of their values, not the mean: those on a finer grid are smaller."""
        return not self.of_effects and (self.normalization == "paper" or self.side == "g2r")

    def of(self, attribution: Attribution, selection: Selection) -> core.Maps:
        """The maps of a run. Raises an AttributionError, or a ValueError with what to do."""
        if self.normalization != EFFECT:
            check_attention(attribution)
            return core.maps(
                attribution, MapKind(self.side, self.normalization), self.level, selection, self.time_groups
            )
        owner = owner_of(attribution, self.effect_of, selection.reference)
        if self.side == "g2r" and isinstance(owner, int):
            check_regions(attribution, owner)
        return core.effect_maps(attribution, self.side, self.level, selection, owner, self.through)

    def about(self, attribution: Attribution, reference: int) -> str:
        """What they say; at level 'reference' effects are of all, and their own labels name them."""
        if not self.of_effects:
            return self.normalization
        name = attribution.owner_names[owner_of(attribution, self.effect_of, reference)]
        of = "" if self.level == "reference" else f" of {name}"
        return EFFECT + of + (", directly" if self.through == "directly" else "")


def check_memory(count: int, height: int, width: int) -> None:
    """A system that has no memory left may end ComfyUI without a word."""
    needed = count * height * width * BYTES
    if needed > get_total_memory(torch.device("cpu")):
        raise ValueError(
            f"{count} maps of {width}x{height} would take {needed / 2**30:.0f} GB, more than this machine has: select "
            "fewer steps, layers or heads, or connect a smaller image."
        )

"""What references caused: predictions of a model with something and without it, at some steps of a run.

Attention says where a model looked. What that did is measured by evaluating the model again, for the same noisy latent,
with an *owner* taken away: a reference, all of them, the text, or what one conditioning has and another lacks. The
*effect* at a position is the root mean square, over the channels of the latent, of what the predicted clean latent
changes by: it is in units of the latent, whose values spread by about 1. Precedents: Kong et al., "Interpretable
Diffusion via Information Decomposition", ICLR 2024; DiffEdit (Couairon et al., 2022).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from .tokens import TokenGrid

Part = Literal["all references", "text", "conditioning"]
Owner = int | Part
"""What is taken away: the reference of this number, or one of these. 'conditioning' is all that the run's conditioning
has and the one that it was compared with lacks."""
PARTS: tuple[Part, ...] = get_args(Part)

Route = Literal["everything", "directly"]
"""How what is taken away would have reached the picture: by any way, or by the picture's own positions alone."""
ROUTES: tuple[Route, ...] = get_args(Route)

Cut = Literal["taken away", "only this left"]
"""How the effect of a region is measured: by what is lost without it, or by what it alone does, without all others of
its reference: that is compared with the prediction without the reference."""
CUTS: tuple[Cut, ...] = get_args(Cut)

Certainty = Literal["measured", "rough", "too small to measure", "none"]
"""How an effect compares with the noise floor: ten times as large or more, three times or more, less, or exactly 0."""
ROUGH, TOO_SMALL = 10.0, 3.0


class Removal(NamedTuple):
    """One evaluation in which something was taken away."""

    step: int
    owner: Owner
    route: Route = "everything"


@dataclass(frozen=True)
class RegionEffects:
    """The effects of parts of a reference, at one ``step``: ``values [items, regions, cells]``, in float32.

    ``grid`` is how the reference's tokens are divided, row by row: region ``(i, j)`` of a grid of ``g`` rows has those
    in rows ``y`` with ``y * g // h == i``. A reference with fewer rows of tokens has fewer regions.
    """

    step: int
    route: Route
    grid: TokenGrid
    values: Tensor


@dataclass(frozen=True)
class Effects:
    """What was measured in one run. Positions are the cells of the attribution's ``grid``, which is the latent's.

    ``maps`` are effects ``[items, cells]`` in float32. ``floor [items, cells]`` is the noise floor: what the prediction
    changes by where nothing is taken away, since a batch of another size is rounded otherwise. ``regions`` are keyed by
    the number of a reference. ``predictions`` are the predicted clean latents as a VAE takes them, ``[items, C,
    (frames,) h, w]`` in float32 or float16, by step and by what was taken away (by the first of its routes); None is
    nothing. ``unmeasured`` says why for what was not measured, in words. ``evaluations`` of the model were made for all
    of it, in ``seconds``.
    """

    maps: Mapping[Removal, Tensor]
    floor: Tensor
    regions: Mapping[tuple[int, Cut], RegionEffects] = field(default_factory=dict)
    predictions: Mapping[tuple[int, Owner | None], Tensor] = field(default_factory=dict)
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    evaluations: int = 0
    seconds: float = 0.0

    @property
    def owners(self) -> list[Owner]:
        """What was taken away: references by their numbers, then the others."""
        owners = {removal.owner for removal in self.maps}
        return [*sorted(x for x in owners if isinstance(x, int)), *(part for part in PARTS if part in owners)]

    @property
    def reasons(self) -> list[str]:
        """Of all that was not measured the reason, for a person."""
        return [f"{what}: {reason}" for what, reason in self.unmeasured.items()]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        tensors = (*self.maps.values(), self.floor, *(x.values for x in self.regions.values()))
        return sum(x.nbytes for x in (*tensors, *self.predictions.values()))

    def steps(self, owner: Owner, route: Route = "everything") -> list[int]:
        """The steps in which an owner was taken away in this way, in order; none where it was not."""
        return sorted(x.step for x in self.maps if (x.owner, x.route) == (owner, route))

    def routes(self, owner: Owner) -> list[Route]:
        """The ways in which an owner was taken away."""
        return [route for route in ROUTES if self.steps(owner, route)]

    def strength(self, owner: Owner, route: Route = "everything", inside: Tensor | None = None) -> float:
        """Root mean square of an effect over the positions ``inside [items, cells]`` (None: all), mean over steps."""
        steps = self.steps(owner, route)
        return sum(rms(self.maps[Removal(step, owner, route)], inside) for step in steps) / max(1, len(steps))

    def certainty(self, owner: Owner, route: Route = "everything", inside: Tensor | None = None) -> Certainty:
        """How an owner's strength compares with that of the noise floor."""
        return certainty_of(self.strength(owner, route, inside), rms(self.floor, inside))

    def lines(self, names: Mapping[Owner, str], inside: Tensor | None = None) -> Iterator[str]:
        """What was measured, for a person. ``inside [items, cells]`` is the inpainting mask, where there is one."""
        for owner in self.owners:
            for route in self.routes(owner):
                where = "" if inside is None else f" in the mask ({self.strength(owner, route):.3g} everywhere)"
                steps = ", ".join(map(str, self.steps(owner, route)))
                what = f"{names.get(owner, owner)}{WAYS[route]}"
                yield (
                    f"effect of {what}: {self.strength(owner, route, inside):.3g} latent units{where}, "
                    f"in steps {steps}: {WORDS[self.certainty(owner, route, inside)]}"
                )
        for (reference, cut), regions in self.regions.items():
            name = names.get(reference, reference)
            yield f"effect of {regions.grid} regions of {name}, {cut}, in step {regions.step}"
        yield from (f"effect of {what}: not measured, {reason}" for what, reason in self.unmeasured.items())
        yield f"effects took {self.evaluations} more evaluations of the model, {self.seconds:.1f} s"


WORDS: dict[Certainty, str] = {
    "measured": "measured",
    "rough": "rough, since it is not ten times the noise floor",
    "too small to measure": "too small to measure, less than three times the noise floor",
    "none": "none at all: not a digit changes",
}
WAYS: dict[Route, str] = {"everything": "", "directly": ", by the picture's own positions alone"}


def certainty_of(strength: float, floor: float) -> Certainty:
    """How an effect compares with the noise floor, both root mean squares of the same positions."""
    if strength == 0:
        return "none"
    if strength < TOO_SMALL * floor:
        return "too small to measure"
    return "rough" if strength < ROUGH * floor else "measured"


def rms(values: Tensor, inside: Tensor | None = None) -> float:
    """The root mean square of values, of those ``inside`` (boolean, of the same shape); 0 where there are none."""
    chosen = values.double() if inside is None else values.double()[inside]
    return float(chosen.square().mean().sqrt()) if chosen.numel() else 0.0


def effect_of(with_: Tensor, without: Tensor) -> Tensor:
    """The effect at each position ``[items, cells]`` of two predictions ``[items, C, (frames,) h, w]``."""
    difference = with_.float() - without.float()
    return difference.square().mean(1).sqrt().flatten(1)


def region_grid(grid: TokenGrid, per_side: int) -> TokenGrid:
    """How the tokens of a reference are divided into regions, at most ``per_side`` in each direction."""
    return TokenGrid(min(per_side, grid.height), min(per_side, grid.width))


def regions_of(grid: TokenGrid, regions: TokenGrid) -> Tensor:
    """The number of the region that each cell of a reference's grid is in: ``[cells]``."""
    rows = torch.arange(grid.height) * regions.height // grid.height
    columns = torch.arange(grid.width) * regions.width // grid.width
    plane = rows[:, None] * regions.width + columns
    return plane.flatten().repeat(grid.frames)


def means_over_regions(values: Tensor, grid: TokenGrid, regions: TokenGrid) -> Tensor:
    """The mean over each region of values ``[plane]`` on the cells of a frame of a reference's grid: ``[regions]``."""
    numbers = regions_of(TokenGrid(grid.height, grid.width), regions)
    sums, cells = torch.zeros(2, regions.cells).index_add_(1, numbers, torch.stack([values, torch.ones_like(values)]))
    return sums / cells


def owner_names(references: Iterable[str]) -> dict[Owner, str]:
    """What owners are called, for a person, by the names of a run's references."""
    names: dict[Owner, str] = {number: f"reference {number} ('{name}')" for number, name in enumerate(references)}
    return names | {
        "all references": "all references together",
        "text": "the text",
        "conditioning": "what the conditioning 'without' lacks",
    }

"""The result of one run: frozen maps of every layer, step and head, and what is to be known of how they were made."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from .effect import Effects, Owner, owner_names
from .errors import UnknownItem, UnknownReference
from .given import GivenReference
from .half import Precise
from .kinds import Direction
from .regions import cells_of
from .tokens import TokenGrid, TokenGroup

STEERED = "steered"  # what a note begins with that says how the run was steered: it comes first in the summary

ALONE = "one token alone in its softmax: its share is 1 by definition, whatever the picture shows"
"""What is said of maps on the picture of a reference that is one token with nothing to compete with."""

HeadDetail = Literal["in each step", "over steps", "over steps and frames", "merged"]
"""In what detail heads are kept apart: their maps of each time bin, their means, or not at all."""
HEAD_DETAILS: tuple[HeadDetail, ...] = get_args(HeadDetail)


ShareOwner = Literal["references", "text"]
"""Who shares one softmax, beside the rest: in joint attention that is the picture itself."""
SHARE_OWNERS: tuple[ShareOwner, ...] = get_args(ShareOwner)


@dataclass(frozen=True)
class Layer:
    """A block of the denoiser, as maps name it: ``grid`` is the layout of its positions, ``heads`` their number."""

    name: str
    grid: TokenGrid
    heads: int


@dataclass(frozen=True)
class Reference:
    """A reference image as the model gets it. ``grid`` is None where its tokens have no place in the image.

    ``tokens`` is how long its maps are: how many tokens it has, or cells where its grid has more of these.
    ``key`` distinguishes references of one name. Where layers have it on grids of different size, ``grid`` is the
    largest, and the maps of each layer say which is theirs. ``approximate`` says that the place of its tokens on the
    grid is an estimate; maps on the picture do not depend on it. ``embeds [tokens, C]`` are the tokens themselves,
    where they are known: their image is recognised by them. They are not saved. ``alone`` says that it is one token,
    which was all that there was to attend to: a softmax over one key is 1, so that its logits change nothing.
    """

    name: str
    tokens: int
    grid: TokenGrid | None
    key: str = ""
    approximate: bool = False
    embeds: Tensor | None = field(default=None, compare=False, repr=False)
    alone: bool = False

    @classmethod
    def of(cls, group: TokenGroup) -> "Reference":
        """The reference that this group of tokens belongs to."""
        return cls(group.name, group.places, group.grid, group.key, group.approximate, group.embeds)


@dataclass(frozen=True)
class LayerMaps:
    """Maps of one layer for one reference, each ``[items, bins, heads, cells]``, in float32 or with half its precision.

    ``maps`` is keyed by ``MapKind.key``, whose normalization says the unit. ``seen [bins]`` counts the steps of each
    bin in which the layer was captured: it is the weight of that bin in a mean over time. Where heads are not kept
    apart in each step, the head axis has length 1. ``head_maps`` are then the means over all steps, of each head
    (``[items, 1, heads, cells]``), if these are kept; ``HeadDetail`` says whether they are means over the frames of a
    video, too. ``pairs`` is keyed by ``kinds.PAIR_KEYS``, each ``[items, A, M]`` float32 and a mean over heads and
    steps, for the positions ``pair_rows [A]``; it is empty where no pair maps were kept. ``reference_grid`` is the
    reference's grid in this layer. ``off`` are the steps in which the reference was observed to be off in the layer:
    their maps are 0, and they are among those that were seen.
    """

    maps: Mapping[str, Precise]
    seen: Tensor
    pair_rows: Tensor | None = None
    pairs: Mapping[str, Tensor] = field(default_factory=dict)
    reference_grid: TokenGrid | None = None
    head_maps: Mapping[str, Precise] = field(default_factory=dict)
    off: tuple[int, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of all maps and pair maps."""
        return sum(x.nbytes for maps in (self.maps, self.head_maps, self.pairs) for x in maps.values())


@dataclass(frozen=True)
class Attribution:
    """The attribution of one run. ``Recorder`` makes it, ``maps`` and ``specific`` read it, ``save`` writes it.

    References, layers and items are numbered from 0, as in these tuples. Nothing in it changes after it is made.
    """

    references: tuple[Reference, ...]
    layers: tuple[Layer, ...]
    entries: Mapping[tuple[int, int], LayerMaps]  # (reference, layer)
    bins: tuple[range, ...]  # the steps that each time bin holds
    sigmas: tuple[float, ...]  # one more than there are steps
    items: int  # pictures in the batch
    heads: HeadDetail
    grid: TokenGrid  # of the whole latent
    denoise_mask: Tensor | None = None  # [items, h, w] on ``grid``, above 0 where the picture is painted
    mechanism: str = ""
    branch: str = ""
    captured_calls: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)  # reason -> calls
    row_sums: Mapping[str, int] = field(default_factory=dict)  # what computed the row log-sum-exp -> calls
    notes: tuple[str, ...] = ()
    pictures: Mapping[str, Tensor] = field(default_factory=dict)  # "generated 0", "reference 0": [H, W, 3] uint8
    effects: Effects | None = None  # what references caused, where that was measured
    given: tuple[GivenReference, ...] = ()  # what the run was given as a reference, and what became of it
    # Where references compete with the text: whose part of the attention is how large, [items, steps, layers, 2], as
    # means over all positions and over those in the mask. NaN where nothing was recorded
    shares: Mapping[ShareOwner, Tensor] = field(default_factory=dict)
    not_evaluated: tuple[int, ...] = ()  # steps in which the model was not asked, or a node answered from memory
    not_looked_at: tuple[int, ...] = ()  # steps that a person wanted to be left out
    missed: tuple[str, ...] = ()  # of the reasons in ``skipped`` those of calls that may read a reference
    # How many times guidance multiplies what the positive conditioning adds; 1 is no guidance. None: not known
    guidance: float | None = None
    all_observed: bool = False  # no call that may read a reference was skipped; False where that is not known
    arithmetic: Mapping[str, int] = field(default_factory=dict)  # what computed maps, where there is a choice -> calls
    # Of each picture hashes of the latent: as the run began with it, and as it may be stored that the run made. No file
    # has them.
    began: tuple[str, ...] = field(default=(), compare=False, repr=False)
    ended: tuple[frozenset[str], ...] = field(default=(), compare=False, repr=False)

    @property
    def steps(self) -> int:
        """How many steps the run had."""
        return len(self.sigmas) - 1

    def layer_maps(self, reference: int, layer: int) -> LayerMaps | None:
        """The maps of a layer, or None where none of its captured calls reads this reference."""
        return self.entries.get((reference, layer))

    def picture(self, direction: Direction, reference: int, item: int) -> Tensor | None:
        """The picture (r2g) or the reference image (g2r) that maps lie on, ``[H, W, 3]`` uint8; None if not kept."""
        return self.pictures.get(f"generated {item}" if direction == "r2g" else f"reference {reference}")

    @property
    def owner_names(self) -> dict[Owner, str]:
        """What the owners of effects are called, for a person."""
        return owner_names(reference.name for reference in self.references)

    def check_reference(self, reference: int) -> Reference:
        """The reference of this number. Raises UnknownReference."""
        if not 0 <= reference < len(self.references):
            raise UnknownReference(reference, len(self.references))
        return self.references[reference]

    def check_item(self, item: int) -> None:
        """Raises UnknownItem where the run made no picture of this number."""
        if not 0 <= item < self.items:
            raise UnknownItem(item, self.items)

    @property
    def mechanisms(self) -> list[str]:
        """The names of those that captured anything."""
        return self.mechanism.split(", ") if self.mechanism else []

    @property
    def nbytes(self) -> int:
        """Bytes of all maps, pair maps and effects."""
        effects = 0 if self.effects is None else self.effects.nbytes
        return sum(entry.nbytes for entry in self.entries.values()) + effects

    def summary(self) -> str:
        """A few lines of text for a person: what was captured, how finely, and what was skipped and why."""
        lines = self._of_attention() if self.entries or self.effects is None else self._of_effects_alone(self.effects)
        return "\n".join(lines)

    def _of_attention(self) -> list[str]:
        paired = sorted({layer for (_, layer), entry in self.entries.items() if entry.pairs})
        read = {reference for reference, _ in self.entries}
        computed = self._of_steps()
        unread = ", given, and read by no call that was captured"
        return [
            f"{self.captured_calls} attention calls in {len(self.layers)} layers over {computed}{self.steps} steps "
            f"tell how {len(read)} reference(s) acted on {self.items} picture(s), on a latent grid of {self.grid}.",
            f"mechanism: {self.mechanism}; branch: {self.branch}{self._guided()}",
            *(line + ("" if i in read else unread) for i, line in enumerate(self._references())),
            *(given.line for given in self.given),
            *(note for note in self.notes if note.startswith(STEERED)),
            *self._effects(),
            f"kept: {self._detail()}, {self.nbytes / 2**20:.1f} MB",
            f"pair maps: {', '.join(self.layers[n].name for n in paired) or 'none'}",
            f"attention calls: {self.captured_calls} captured, {sum(self.skipped.values())} skipped",
            *(f"  {count} x {reason}" for reason, count in self.skipped.items()),
            *(f"row sums of {count} calls: {name}" for name, count in self.row_sums.items()),
            *(f"maps of {count} calls: {name}" for name, count in self.arithmetic.items()),
            *(note for note in self.notes if not note.startswith(STEERED)),
            "layers:",
            *(f"  {i}: {x.name}, grid {x.grid}, {x.heads} heads" for i, x in enumerate(self.layers)),
        ]

    def _of_effects_alone(self, effects: Effects) -> list[str]:
        """Nothing of attention, but why there is none: its reasons are those of the calls, or else what notes say."""
        names = self.owner_names
        measured = len({removal.step for removal in effects.maps})
        notes = [note for note in self.notes if not note.startswith(STEERED)]
        skipped = [f"{count} x {reason}" for reason, count in self.skipped.items()]
        by = f"mechanism: {self.mechanism}; " if self.mechanism else ""
        return [
            f"Effects of {', '.join(names[x] for x in effects.owners)} on {self.items} picture(s) were measured in "
            f"{measured} of {self.steps} steps, on a latent grid of {self.grid}.",
            f"no attention was captured: {'; '.join(skipped or notes) or 'no call reads a reference'}",
            f"{by}branch: {self.branch}{self._guided()}",
            *self._references(),
            *(given.line for given in self.given),
            *(note for note in self.notes if note.startswith(STEERED)),
            *self._effects(),
            f"kept: {len(effects.maps)} effects, {len(effects.regions)} of regions, {len(effects.predictions)} "
            f"predictions, {self.nbytes / 2**20:.1f} MB",
            *(notes if skipped else ()),
        ]

    def _guided(self) -> str:
        """With what guidance, where that is known, and there is any."""
        return "" if self.guidance in (None, 1) else f", cfg {self.guidance:.3g}"

    def _references(self) -> Iterator[str]:
        for i, reference in enumerate(self.references):
            layout = f"grid {reference.grid}" if reference.grid else "no spatial layout"
            approximate = ", approximate" if reference.approximate else ""
            alone = f", {ALONE}" if reference.alone else ""
            yield f"reference {i}: {reference.name}, {reference.tokens} tokens, {layout}{approximate}{alone}"

    def mask_on_latent(self) -> Tensor | None:
        """The inpainting mask on the latent's grid, ``[items, cells]``; None where there is none, or it is empty."""
        if self.denoise_mask is None:
            return None
        inside = cells_of(self.denoise_mask, self.grid)
        return inside.expand(self.items, -1) if inside.any() else None

    def scope_on_latent(self, item: int) -> Tensor:
        """The positions of an item that count, among those of all: ``[items, cells]``. Its mask, where it has one."""
        inside = torch.zeros(self.items, self.grid.cells, dtype=torch.bool)
        mask = self.mask_on_latent()
        inside[item] = True if mask is None or not mask[item].any() else mask[item]
        return inside

    def _effects(self) -> Iterator[str]:
        if self.effects is not None:
            yield from self.effects.lines(self.owner_names, self.mask_on_latent())

    def _of_steps(self) -> str:
        """How many steps maps can be of, where these are not all: "10 of "."""
        without = {*self.not_evaluated, *self.not_looked_at}
        return f"{self.steps - len(without)} of " if without else ""

    def _detail(self) -> str:
        """What is kept apart, in words; and what is not, where it could be."""
        computed = self._of_steps()
        steps = (
            f"each of {computed}{self.steps} steps"
            if len(self.bins) == self.steps
            else f"{len(self.bins)} groups of steps"
        )
        detail = (
            f"{steps} x {len(self.layers)} layers x {'each head' if self.heads == 'in each step' else 'mean of heads'}"
        )
        if self.heads == "over steps":
            detail += ", and each head x layer as the mean of all steps (of one step: not kept)"
        elif self.heads == "over steps and frames":
            detail += ", and each head x layer as the mean of all steps and frames (of one step or frame: not kept)"
        return detail

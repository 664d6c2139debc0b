"""Effects while a run lasts: pairs of predictions become maps, within a budget of memory. Only this makes ``Effects``.

A prediction may come in parts, of some frames of a video each, as from context windows: they count with their weights,
and add up.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..effect import Cut, Effects, Owner, RegionEffects, Removal, Route, effect_of, owner_names
from ..errors import Incomparable
from ..tokens import TokenGrid

NO_MEMORY = "the memory budget is used up"
NO_NUMBERS = "the prediction holds values that are not numbers"
NO_WHOLE = "what the whole reference does was not measured, with which it is compared"

OF_PREDICTIONS = 0.75  # of the budget, at most: the rest is for maps, which come after them


@dataclass(frozen=True)
class Frames:
    """What of the latent a prediction ``[items, C, n, h, w]`` is: frames ``[n]`` of it, with a weight ``[n]`` each."""

    numbers: Tensor
    weights: Tensor


@dataclass(frozen=True)
class RegionRemoval:
    """One evaluation in which the region ``number`` of a reference was taken away, or was all that was left."""

    step: int
    route: Route
    reference: int
    cut: Cut
    grid: TokenGrid  # of all regions
    number: int


Removed = Removal | RegionRemoval | Literal["nothing"] | None
"""What was taken away in an evaluation. None is the one with everything, to which the others are compared: with
'nothing' taken away, only rounding changes."""


@dataclass
class _Step:
    """The step that is under way, on the CPU: whole predictions, or sums over parts of them."""

    number: int
    with_: Tensor | None = None
    without: dict[Removal, Tensor] = field(default_factory=dict)  # references, to compare their regions with
    sums: dict[Removed, Tensor] = field(default_factory=dict)

    def add_frames(self, removed: Removed, prediction: Tensor, frames: Frames, shape: torch.Size) -> None:
        whole = self.sums.setdefault(removed, torch.zeros(shape))
        whole.index_add_(2, frames.numbers, prediction * frames.weights[None, None, :, None, None])


class EffectRecorder:
    """Effects of one run, on a latent of ``shape`` ``[items, C, (frames,) h, w]``.

    ``steps`` are how many are measured. ``as_latent`` makes of a prediction the latent that a VAE takes. Predictions
    and regions are kept as long as there are ``budget_bytes``; maps, which take one channel of a latent each, always.
    """

    def __init__(
        self, shape: torch.Size, steps: int, budget_bytes: int, as_latent: Callable[[Tensor], Tensor] = lambda x: x
    ) -> None:
        self.shape, self.as_latent = shape, as_latent
        self.evaluations, self.seconds = 0, 0.0
        self._bytes = budget_bytes
        self._maps: dict[Removal, Tensor] = {}
        self._regions: dict[tuple[int, Cut], RegionEffects] = {}
        self._latents: dict[tuple[int, Owner | None], Tensor] = {}
        self._unmeasured: dict[str, str] = {}
        self._floor: Tensor | None = None
        self._step: _Step | None = None
        whole = 4 * shape.numel()
        self._precision = torch.float32 if 3 * steps * whole <= budget_bytes / 2 else torch.float16

    @property
    def nbytes(self) -> int:
        """Bytes of all that is kept."""
        tensors = [*self._maps.values(), *self._latents.values(), *(x.values for x in self._regions.values())]
        return sum(x.nbytes for x in tensors)

    def why_not(self, what: str, reason: str) -> None:
        """Of what is not measured the reason, in words: the first one stays."""
        self._unmeasured.setdefault(what, reason)

    def is_unmeasured(self, what: str) -> bool:
        """Whether there is a reason why it is not measured."""
        return what in self._unmeasured

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell: neither an effect, nor a reason why there is none."""
        return not self._maps and not self._unmeasured

    def add(self, step: int, removed: Removed, prediction: Tensor, frames: Frames | None = None) -> None:
        """The prediction of an evaluation in this step, on any device. The first of a step is with everything.

        Regions are of whole predictions only. Raises Incomparable for what cannot be compared.
        """
        prediction = prediction.detach().to("cpu", torch.float32)
        if self._step is None or self._step.number != step:
            self.end_step()
            self._step = _Step(step)
        if frames is not None:
            self._step.add_frames(removed, prediction, frames, self.shape)
        elif removed is None:
            self._step.with_ = prediction.clone()  # the sampler may change its own in place
            self._keep_latent(step, None, self._step.with_)
        else:
            self._compare(removed, prediction)

    def end_step(self) -> None:
        """All evaluations of a step were made: what has come in parts is compared."""
        step, self._step = self._step, None
        if step is None or None not in step.sums:
            return
        with_ = step.sums.pop(None)
        self._step = _Step(step.number, with_)
        self._keep_latent(step.number, None, with_)
        for removed, prediction in step.sums.items():
            try:
                self._compare(removed, prediction)
            except Incomparable as error:
                self.why_not(_name_of(removed), error.reason)
        self._step = None

    def no_effect(self, removed: Removal | RegionRemoval) -> None:
        """What is taken away there is read by nothing: the prediction is that with everything."""
        with_ = None if self._step is None else self._step.with_
        if isinstance(removed, Removal):
            self._maps[removed] = torch.zeros(self.shape[0], self.shape[2:].numel())
            if self._step is not None and with_ is not None:
                self._step.without[removed] = with_
        elif with_ is not None:
            self._add_region(removed, with_)

    def freeze(self, numbers: Mapping[int, int]) -> Effects:
        """The effects, whose references get other ``numbers``; those of references without one are left out."""
        self.end_step()

        def renumbered(owner: Owner | None) -> Owner | None:
            return numbers[owner] if isinstance(owner, int) else owner

        def stays(owner: Owner | None) -> bool:
            return not isinstance(owner, int) or owner in numbers

        maps = {
            Removal(x.step, owner, x.route): values
            for x, values in self._maps.items()
            if stays(x.owner) and (owner := renumbered(x.owner)) is not None
        }
        cells = self.shape[2:].numel()
        return Effects(
            maps=maps,
            floor=torch.zeros(self.shape[0], cells) if self._floor is None else self._floor,
            regions={(numbers[r], cut): x for (r, cut), x in self._regions.items() if r in numbers},
            predictions={(step, renumbered(o)): x for (step, o), x in self._latents.items() if stays(o)},
            unmeasured=dict(self._unmeasured),
            evaluations=self.evaluations,
            seconds=self.seconds,
        )

    def _compare(self, removed: Removed, prediction: Tensor) -> None:
        """What an evaluation changed becomes a map."""
        assert self._step is not None and self._step.with_ is not None
        if isinstance(removed, RegionRemoval):
            self._add_region(removed, prediction)
            return
        effect = _finite(effect_of(self._step.with_, prediction))
        if isinstance(removed, Removal):
            self._maps[removed] = effect
            self._keep_latent(removed.step, removed.owner, prediction)
            if isinstance(removed.owner, int):
                self._step.without[removed] = prediction
        else:
            self._floor = effect if self._floor is None else torch.maximum(self._floor, effect)

    def _keep_latent(self, step: int, owner: Owner | None, prediction: Tensor) -> None:
        """Of the first route of an owner, as long as there is memory, and what it is compared with is there."""
        key = (step, owner)
        if key in self._latents or (owner is not None and (step, None) not in self._latents):
            return
        latent = self.as_latent(prediction).to(self._precision)
        if self.nbytes + latent.nbytes > OF_PREDICTIONS * self._bytes:
            self.why_not("pictures with and without", NO_MEMORY)
            return
        self._latents[key] = latent

    def _add_region(self, removed: RegionRemoval, prediction: Tensor) -> None:
        """What is left alone is compared with nothing left: that is what it does by itself."""
        assert self._step is not None and self._step.with_ is not None
        other: Tensor | None = self._step.with_
        if removed.cut == "only this left":
            other = self._step.without.get(Removal(removed.step, removed.reference, removed.route))
        if other is None:
            raise Incomparable(NO_WHOLE)
        effect = _finite(effect_of(other, prediction))
        key = removed.reference, removed.cut
        if key not in self._regions:
            values = torch.zeros(effect.shape[0], removed.grid.cells, effect.shape[1])
            self._regions[key] = RegionEffects(removed.step, removed.route, removed.grid, values)
        self._regions[key].values[:, removed.number] = effect

    def regions_fit(self, regions: int) -> bool:
        """Whether the effects of so many regions fit the budget, beside what is kept and one step's predictions."""
        return self.nbytes + regions * 4 * self.shape[0] * self.shape[2:].numel() <= self._bytes


def _name_of(removed: Removed) -> str:
    """What has come in parts, for a person; the names of references are not known here."""
    if not isinstance(removed, Removal):
        return "the noise floor"
    return owner_names(()).get(removed.owner, f"reference {removed.owner}")


def _finite(effect: Tensor) -> Tensor:
    """The effect. Raises Incomparable where it is no number somewhere: no file could hold it, no map show it."""
    if not effect.isfinite().all():
        raise Incomparable(NO_NUMBERS)
    return effect

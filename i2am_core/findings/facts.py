"""What rules read of one picture of a run: each thing worked out once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..attribution import SHARE_OWNERS, Attribution
from ..effect import ROUTES, Certainty, Effects, Owner, Removal, Route, certainty_of, owner_names, rms
from ..errors import Lacking
from ..half import full
from ..kinds import MapKind
from ..printing import printable
from ..reading.levels import maps
from ..reading.metrics import has_competitors
from ..regions import cover_of
from ..selection import Selection, numbers_text

LONGEST = 40  # letters of a name
PICTURE, MASKED = "the picture", "the masked area"
WITHOUT: dict[Route, str] = {"everything": "without it", "directly": "without its direct way to the picture"}
NO_EFFECT = "no effect was measured"
NO_SHARES = "references and the text do not compete in one softmax, or whose part is how large was not recorded"
NO_SHARES_OF_MASK = (
    "parts of the attention are known over all of the picture and over the sampler's mask, and not over what is marked"
)


def steps_text(steps: Sequence[int]) -> str:
    """Steps, for a person."""
    return numbers_text(steps).replace(",", ", ")


@dataclass(frozen=True)
class Facts:
    """One ``item`` of a run, and what a person marked: ``mask`` on the picture, ``object_mask`` on each reference.

    Both are ``[H, W]`` in [0, 1]. Without a ``mask``, that of the sampler takes its place.
    """

    attribution: Attribution
    item: int = 0
    mask: Tensor | None = None
    object_mask: Tensor | None = None

    @cached_property
    def names(self) -> dict[Owner, str]:
        """What owners are called; names that are very long are cut."""
        return owner_names(printable(reference.name, LONGEST) for reference in self.attribution.references)

    @cached_property
    def effects(self) -> Effects:
        """Raises Lacking where none was measured."""
        effects = self.attribution.effects
        if effects is None or not effects.maps:
            raise Lacking(NO_EFFECT)
        return effects

    @property
    def is_painted(self) -> bool:
        """Whether the sampler's mask leaves anything to it: of reference-only, one picture is the reference itself."""
        own = self.attribution.denoise_mask
        return own is None or bool(own[self.item].any())

    @cached_property
    def cover(self) -> Tensor | None:
        """How much of each position is inside the mask ``[cells]``; None where there is none, or it is everything."""
        own = self.attribution.denoise_mask
        mask = self.mask if self.mask is not None else None if own is None else own[self.item]
        if mask is None:
            return None
        cover = cover_of(mask, self.attribution.grid).repeat(self.attribution.grid.frames)
        return cover if cover.any() and not cover.all() else None

    @cached_property
    def inside(self) -> Tensor:
        """The positions that count: of the mask, or all. ``[cells]`` boolean."""
        if self.cover is None:
            return torch.ones(self.attribution.grid.cells, dtype=torch.bool)
        return self.cover > 0.5 if (self.cover > 0.5).any() else self.cover > 0

    @property
    def where(self) -> str:
        """What ``inside`` is, for a person."""
        return PICTURE if self.cover is None else MASKED

    # What was caused

    def measured(self, owner: Owner) -> bool:
        """Whether this was taken away in any step."""
        return bool(self.effects.routes(owner))

    def measured_steps(self, owner: Owner) -> list[int]:
        """The steps in which it was taken away."""
        return self.effects.steps(owner, self._route(owner))

    def steps_of(self, owner: Owner) -> list[int]:
        """Those of them in which it was not observed to be off; all, where it was off in all of them."""
        steps, off = self.measured_steps(owner), self.steps_off(owner)
        return [step for step in steps if step not in off] or steps

    def effect(self, owner: Owner) -> Tensor:
        """The mean over ``steps_of``, at each position: ``[cells]``."""
        return torch.stack([self._effect(step, owner) for step in self.steps_of(owner)]).mean(0)

    def strength(self, owner: Owner, steps: Sequence[int] = ()) -> float:
        """Root mean square over the positions that count, in units of the latent; mean over ``steps_of``.

        Of these ``steps`` alone, where it was measured in any of them: so are two owners compared.
        """
        chosen = [n for n in self.measured_steps(owner) if n in steps] or self.steps_of(owner)
        return sum(rms(self._effect(n, owner), self.inside) for n in chosen) / len(chosen)

    @cached_property
    def floor(self) -> float:
        """The noise floor in the same positions."""
        return rms(self.effects.floor[self.item], self.inside)

    def certainty(self, owner: Owner) -> Certainty:
        """How the strength compares with the noise floor."""
        return certainty_of(self.strength(owner), self.floor)

    @cached_property
    def owners(self) -> list[Owner]:
        """Whose effects are those of references: each of them, or what another conditioning lacks."""
        references: list[Owner] = [owner for owner in self.effects.owners if isinstance(owner, int)]
        return references or [owner for owner in self.effects.owners if owner == "conditioning"]

    def without(self, owner: Owner) -> str:
        """What was taken away of it, for a person."""
        return WITHOUT[self._route(owner)]

    def steps_off(self, owner: Owner) -> set[int]:
        """The steps in which a reference was observed to be off, in every layer that reads it."""
        entries = [entry for (number, _), entry in self.attribution.entries.items() if number == owner]
        return set.intersection(*(set(entry.off) for entry in entries)) if entries else set()

    def _route(self, owner: Owner) -> Route:
        """By which it was taken away: by any way, or where that was not measured by the picture's positions alone."""
        return (self.effects.routes(owner) or ROUTES)[0]

    def _effect(self, step: int, owner: Owner) -> Tensor:
        return self.effects.maps[Removal(step, owner, self._route(owner))][self.item]

    # Where it looked

    @cached_property
    def read(self) -> list[int]:
        """The numbers of references with maps of attention."""
        return sorted({number for number, _ in self.attribution.entries})

    def share_in_measured_steps(self, reference: int) -> float:
        """The mean of its share over all positions, in the time bins that hold measured steps."""
        measured = set(self.steps_of(reference))
        bins = [bin for bin in self.attribution.bins if measured & set(bin)]
        selection = self.selection([step for bin in bins for step in bin], reference)
        return float(maps(self.attribution, MapKind("r2g", "share"), "unified", selection).values[0].mean())

    def shares_by_step(self, reference: int) -> tuple[list[float], list[float]]:
        """The first step of each time bin in which it was observed, and the mean of its share over all positions."""
        selection = self.selection(reference=reference)
        result = maps(self.attribution, MapKind("r2g", "share"), "time", selection, time_groups=0)
        seen = torch.zeros(len(self.attribution.bins))
        for (number, _), entry in self.attribution.entries.items():
            seen += entry.seen if number == reference else 0
        steps = [float(bin.start) for bin, count in zip(self.attribution.bins, seen, strict=True) if count]
        means = [float(x.mean()) for x, count in zip(result.values, seen, strict=True) if count]
        return steps, means

    def has_all_of_it(self, reference: int) -> bool:
        """Whether all of the attention goes to it in all steps, as where it is alone in its softmax."""
        shares = self.shares_by_step(reference)[1]
        return bool(shares) and not has_competitors(torch.tensor(shares))

    def shares_by_layer(self, reference: int) -> tuple[list[float], list[float]]:
        """The numbers of the layers that read it, and the mean of its share in each."""
        result = maps(self.attribution, MapKind("r2g", "share"), "layer", self.selection(reference=reference))
        layers = sorted(layer for number, layer in self.attribution.entries if number == reference)
        return [float(layer) for layer in layers], [float(x.mean()) for x in result.values]

    def selection(self, steps: Sequence[int] = (), reference: Owner = 0) -> Selection:
        """Of this picture, in these steps, or all; of the reference that an owner is, or the first."""
        number = reference if isinstance(reference, int) else 0
        return Selection(steps=numbers_text(sorted(steps)) or "all", reference=number, item=self.item)

    def steps_on(self, reference: int) -> list[int] | None:
        """The steps in which any attention went to a reference, in any layer; None where steps were merged."""
        if len(self.attribution.bins) < self.attribution.steps:
            return None
        key = MapKind("r2g", "share").key
        on = torch.zeros(len(self.attribution.bins), dtype=torch.bool)
        for (number, _), entry in self.attribution.entries.items():
            if number == reference:
                on |= (full(entry.maps[key][self.item]).flatten(1) > 0).any(1)
        bins = zip(self.attribution.bins, on.tolist(), strict=True)
        return [step for steps, is_on in bins if is_on for step in steps]

    def steps_seen(self, reference: int) -> int:
        """In how many steps a reference was observed, in any layer."""
        seen = [entry.seen for (number, _), entry in self.attribution.entries.items() if number == reference]
        return int((torch.stack(seen).amax(0) > 0).sum()) if seen else 0

    @cached_property
    def parts_of_attention(self) -> tuple[float, float]:
        """Those of references and of the text, over the positions that count. Raises Lacking where they are unknown."""
        shares = self.attribution.shares
        if not set(SHARE_OWNERS) <= shares.keys():
            raise Lacking(NO_SHARES)
        if self.mask is not None:
            raise Lacking(NO_SHARES_OF_MASK)
        scope = 0 if self.cover is None else 1
        references, text = (float(shares[owner][self.item, ..., scope].nanmean()) for owner in SHARE_OWNERS)
        if math.isnan(references + text):
            raise Lacking(NO_SHARES)
        return references, text

    def predictions(self, owner: Owner) -> list[tuple[Tensor, Tensor]]:
        """With it and without it, in each measured step that has both: latents ``[C, positions that count]``.

        They are in the units of effects, the model's own.
        """
        latents, pairs = self.effects.predictions, []
        for n in self.steps_of(owner):
            if not {(n, None), (n, owner)} <= latents.keys():
                continue
            x, y = (latents[n, one][self.item].float().flatten(1) for one in (None, owner))
            if x.shape[1] != len(self.inside) or x.shape != y.shape:
                continue
            # Latents are kept as a VAE takes them. How much larger they are than the model's is what the effect says.
            larger = rms((x - y).square().mean(0).sqrt()) / max(rms(self._effect(n, owner)), 1e-12)
            if larger > 0:
                pairs.append((x[:, self.inside] / larger, y[:, self.inside] / larger))
        return pairs

    @property
    def has_effects_of_steps(self) -> bool:
        """Whether effects were measured at all."""
        return self.attribution.effects is not None and bool(self.attribution.effects.maps)

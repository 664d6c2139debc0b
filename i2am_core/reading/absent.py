"""References of which one of two runs has no maps: where all that may read one was observed, they were not there.

What is observed not to be there counts as 0, as what is off does; what is not known does not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attribution import Attribution, LayerMaps, Reference
from ..selection import numbers_text

ZERO = "not in the {run} run: {its} maps are 0 in steps {here}"
NOT_KNOWN = (
    "captured in the {other} run alone, and whether anything read {it} in the {run} one is not known: {its} maps are "
    "means over steps {there}"
)

Place = tuple[int, int]


@dataclass(frozen=True)
class Absent:
    """What one run of two has no maps of. References and layers have the numbers of both runs together."""

    steps: tuple[tuple[int, ...], ...]  # of each bin those in which the model ran
    layers: Mapping[int, Tensor]  # the layers that it captured, each with the steps of each bin
    zero: frozenset[int]  # references that were observed not to be there, in all layers or in some
    lacking: tuple[int, ...]  # references that it captured nowhere, and the other did

    @classmethod
    def of(
        cls,
        run: Attribution,
        own: Mapping[Place, LayerMaps],
        other: Mapping[Place, LayerMaps],
        references: Sequence[Reference],
        shift: int = 0,
    ) -> "Absent":
        """Of a ``run`` whose entries are ``own``, beside those of the other; ``references`` are those of both.

        ``shift`` is the number that the first of its steps has in both runs together.
        """
        steps = (tuple(step + shift for step in one if step not in run.not_evaluated) for one in run.bins)
        layers: dict[int, Tensor] = {}
        for (_, layer), entry in own.items():
            layers[layer] = torch.maximum(layers.get(layer, entry.seen), entry.seen)
        captured, numbers = {r for r, _ in own}, dict.fromkeys(r for r, _ in other)
        names = {reference.name for reference in run.references}  # one of the same name may be the same image
        zero = {r for r in numbers if r in captured or references[r].name not in names}
        return cls(
            tuple(steps),
            layers,
            frozenset(zero if _all_is_known(run) else ()),
            tuple(r for r in numbers if r not in captured),
        )

    @property
    def computed(self) -> Tensor:
        """In how many steps of each bin the model ran: ``[bins]``."""
        return torch.tensor([len(steps) for steps in self.steps], dtype=torch.float32)

    def off(self, place: Place) -> list[int]:
        """The steps in which the maps of a place are 0, where these are all of their bin."""
        seen = self.seen(place).tolist()
        return [step for steps, count in zip(self.steps, seen, strict=True) if count == len(steps) for step in steps]

    def seen(self, place: Place) -> Tensor:
        """In how many steps of each bin the maps of a place are 0: ``[bins]``."""
        reference, layer = place
        if reference in self.zero and layer in self.layers:
            return self.layers[layer]
        if reference in self.zero and reference in self.lacking:
            return self.computed
        return torch.zeros_like(self.computed)

    def notes(self, references: Sequence[Reference], runs: tuple[str, str], steps: tuple[range, range]) -> list[str]:
        """What a person should know; this run and the other are called ``runs``, and have these ``steps`` of both."""
        notes = []
        for sentence, wanted in ((ZERO, True), (NOT_KNOWN, False)):
            names = [f"'{references[r].name}'" for r in self.lacking if (r in self.zero) is wanted]
            many = len(names) > 1
            about = {"its": "their" if many else "its", "it": "them" if many else "it"}
            here, there = map(numbers_text, steps)
            said = sentence.format(run=runs[0], other=runs[1], here=here, there=there, **about)
            notes += [f"{', '.join(names)} {'are' if many else 'is'} {said}"] if names else []
        return notes


def _all_is_known(run: Attribution) -> bool:
    """Whether a reference without maps was not there: neither in attention, nor by a way that attention lacks."""
    return run.all_observed and all(x.certain and x.fate in ("captured", "ignored") for x in run.given)

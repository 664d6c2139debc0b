"""What a run has of its last steps while it goes on: of each step one small map, summed on the device."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kinds import MapKind, Normalization
from .detail import Key
from .sums import Count, StepSums
from .transfer import sent_to_host

NORMALIZATIONS: tuple[Normalization, ...] = ("share", "paper")
KEYS = [MapKind("r2g", normalization).key for normalization in NORMALIZATIONS]
ITEM = 0  # the first picture of a batch

Plane = tuple[int, int]
"""Height and width of a grid, in cells."""


@dataclass(frozen=True)
class OnPlane:
    """The sum over so many ``layers`` on one grid, each the mean over its heads and frames.

    ``total [2, h, w]`` is in both of ``NORMALIZATIONS``.
    """

    total: Tensor
    layers: int


Steps = dict[int, dict[int, dict[Plane, OnPlane]]]
"""By step, by the number of the reference, and by grid."""


def sent(steps: Mapping[int, Mapping[Key, StepSums]]) -> Callable[[], Steps]:
    """Send from where in the first picture each reference is looked at in these steps, and how much.

    It does not wait: what is returned does, and is called once. A layer of which no call counts is left out.
    """
    groups: defaultdict[tuple[int, int, Plane], list[StepSums]] = defaultdict(list)
    for step, by_key in steps.items():
        for (reference, layer), sums in by_key.items():
            if sums.maps.keys() >= set(KEYS):
                groups[step, reference, (layer.grid.height, layer.grid.width)].append(sums)
    arrived = sent_to_host([x for (*_, plane), group in groups.items() for x in _sum(group, plane)])

    def received() -> Steps:
        values, result = iter(arrived()), Steps()
        for step, reference, plane in groups:
            on_plane = OnPlane(next(values), int(next(values)))
            result.setdefault(step, {}).setdefault(reference, {})[plane] = on_plane
        return result

    return received


def _sum(layers: Sequence[StepSums], plane: Plane) -> tuple[Tensor, Tensor]:
    """The sum of layers on one grid, ``[2, h, w]``, and how many they are."""
    share, paper = (torch.stack([_mean(sums, key, plane) for sums in layers]) for key in KEYS)
    evaluations = torch.stack([_beside(share, sums.evaluations) for sums in layers])[:, None, None]
    means = torch.stack([share / evaluations.clamp(min=1), paper], 1)
    return torch.where((evaluations > 0)[:, None], means, 0).sum(0), (evaluations > 0).sum()


def _mean(sums: StepSums, key: str, plane: Plane) -> Tensor:
    """The mean over heads and frames ``[h, w]``; of shares, that of all evaluations together."""
    frames = sums.mean(key, evaluations=1)[ITEM].mean(0).view(-1, *plane)
    return frames.mean(0) if len(frames) > 1 else frames[0]


def _beside(values: Tensor, count: Count) -> Tensor:
    """A count as a tensor where the values are."""
    return count.to(values) if isinstance(count, Tensor) else values.new_full((), float(count))

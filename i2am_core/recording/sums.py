"""Running sums of the maps of one layer for one reference: over the calls of a step, over steps, and of pair maps.

A call may hold only if a verdict does, a boolean on the device that nobody waits for. What it adds is then chosen
there, and counts are numbers or tensors on the device, as the case may be.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from ..attention.marginals import Marginals
from ..attribution import LayerMaps
from ..kinds import KINDS, PAIR_KEYS
from ..tokens import TokenGrid

Holds = bool | Tensor  # 0-dim
Count = float | Tensor  # 0-dim


def kept_where(holds: Holds, value: Tensor) -> Tensor:
    """The value, or 0 where its call does not hold."""
    return value if isinstance(holds, bool) else torch.where(holds.to(value.device), value, 0)


def either(one: Holds, other: Holds) -> Holds:
    if one is True or other is True:
        return True
    return other if one is False else one | other


class StepSums:
    """Sums over the calls of one step, each ``[items, heads, cells]``, on the model's device.

    A map of the paper is the mean of those calls in which it says anything: of a conditioning for an area outside the
    scope, it does not. Calls of one evaluation of the denoiser are parts of one result: their shares add up.
    """

    def __init__(self) -> None:
        self.maps: dict[str, Tensor] = {}
        self._told: dict[str, Tensor] = {}  # calls in which a map of the paper is not 0, [items]
        self._past: Count = 0  # evaluations that held, but for the last
        self._last: Holds = False  # whether the last one did, in any of its calls
        self._evaluation: int | None = None  # the last one

    def add(self, marginals: Marginals, heads_kept: bool, evaluation: int | None, holds: Holds) -> None:
        sums, told = {}, {}
        for kind in KINDS:
            value = getattr(marginals, kind.key)
            if value is not None:
                value = kept_where(holds, (value if heads_kept else value.mean(1, keepdim=True)).float())
                sums[kind.key] = self.maps[kind.key] + value if kind.key in self.maps else value
                if kind.normalization == "paper":
                    told[kind.key] = value.flatten(1).any(1) + self._told.get(kind.key, 0)
        self.maps |= sums  # all or none: shapes that do not fit have raised by now
        self._told |= told
        if evaluation is None or evaluation != self._evaluation:
            self._past, self._last = self.evaluations, holds
        else:
            self._last = either(self._last, holds)
        self._evaluation = evaluation

    @property
    def evaluations(self) -> Count:
        """How many held."""
        return self._past + (int(self._last) if isinstance(self._last, bool) else self._last)

    def mean(self, key: str, evaluations: int) -> Tensor:
        """``evaluations`` is their number, as known by now; there must be one at least."""
        if key in self._told:
            return self.maps[key] / self._told[key].clamp(min=1)[:, None, None]
        return self.maps[key] / evaluations

    def merge_heads(self) -> None:
        self.maps = {name: total.mean(1, keepdim=True) for name, total in self.maps.items()}

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in self.maps.values())


class PairSums:
    """Pair maps ``[items, A, M]``: the mean over steps of the mean over the calls of a step.

    The sum over the calls of the step at hand is on the model's device, the sum over steps on the CPU: twice what is
    kept. A step that comes back after another has begun (``Recorder`` keeps that of the maps open, for which there is
    no room here) counts once more, as much as these calls are of all that the step had so far.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self._kept: dict[str, Tensor] = {}  # sum over steps
        self._weight: Count = 0  # of all steps in it
        self._open: dict[str, Tensor] = {}  # sum over calls of a step
        self._step: int | None = None
        self._calls: Count = 0  # in it that held
        self._before: dict[int, Count] = defaultdict(int)  # calls by step, of steps that were closed
        self.came_back = False  # whether the sampler asked for a step again, after another

    def add(self, step: int, marginals: Marginals, holds: Holds) -> None:
        if step != self._step:
            self.close()
            self._step = step
        for key in PAIR_KEYS:
            value = kept_where(holds, getattr(marginals, key).float())
            self._open[key] = self._open[key] + value if key in self._open else value
        self._calls = self._calls + (int(holds) if isinstance(holds, bool) else holds)

    def close(self) -> None:
        """The step at hand ends: its mean goes to the CPU."""
        if self._step is None:
            return
        self.came_back |= self._step in self._before
        every = self._before[self._step] + self._calls
        weight = _over(self._calls, every)  # 1, but for a step that came back
        factor = _over(1, every)  # of the sum: its mean times the weight
        for key in PAIR_KEYS:
            mean = (self._open.pop(key) * factor).to("cpu")
            self._kept[key] = self._kept[key].add_(mean) if key in self._kept else mean
        self._weight = self._weight + weight
        self._before[self._step] = every
        self._step, self._calls = None, 0

    def means(self) -> dict[str, Tensor]:
        """Empty where no call held."""
        self.close()
        weight = float(self._weight)
        return {key: total.div_(weight) for key, total in self._kept.items()} if weight else {}


def _over(count: Count, every: Count) -> Count:
    """``count / every``, and 0 where there are none."""
    if isinstance(every, Tensor):
        return count / every.clamp(min=1)
    return count / every if every else 0


class BinSums:
    """Sums over steps, each ``[items, bins, heads, cells]``, on the CPU."""

    def __init__(self, like: StepSums, bins: Sequence[range]) -> None:
        self.lengths = torch.tensor([float(len(b)) for b in bins])
        self.seen = torch.zeros(len(bins))
        self.maps = {name: torch.zeros(x.shape[0], len(bins), x.shape[1], x.shape[2]) for name, x in like.maps.items()}

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in self.maps.values())

    def add(self, step: StepSums, bin_number: int, evaluations: int) -> None:
        self.seen[bin_number] += 1
        for name, total in self.maps.items():
            total[:, bin_number] += step.mean(name, evaluations).cpu()

    def merge(self, bins: Sequence[range]) -> None:
        """Join neighbouring bins two by two; ``bins`` are the new ones."""
        into = torch.arange(len(self.seen)) // 2
        self.lengths = torch.tensor([float(len(b)) for b in bins])
        self.seen = torch.zeros(len(bins)).index_add_(0, into, self.seen)
        for name, total in self.maps.items():
            shape = (total.shape[0], len(bins), *total.shape[2:])
            self.maps[name] = torch.zeros(shape).index_add_(1, into, total)

    def merge_heads(self) -> None:
        self.maps = {name: total.mean(2, keepdim=True) for name, total in self.maps.items()}

    def freeze(self, pairs: PairSums | None, reference_grid: TokenGrid | None) -> LayerMaps:
        weight = self.seen.clamp(min=1)[None, :, None, None]
        means = {} if pairs is None else pairs.means()
        return LayerMaps(
            maps={name: total.div_(weight) for name, total in self.maps.items()},
            seen=torch.minimum(self.seen, self.lengths),  # a step that was closed and came back counts once
            pair_rows=pairs.rows if pairs is not None and means else None,
            pairs=means,
            reference_grid=reference_grid,
        )

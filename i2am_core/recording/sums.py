"""Running sums of the maps of one layer for one reference: over the calls of a step, over steps, and of pair maps.

A call may count only if a verdict holds, which is a boolean on the device. To read it would be to wait for the device:
so values are chosen there, and counts of such calls are tensors on the device, where other counts are numbers.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from ..attention.marginals import Marginals
from ..attribution import LayerMaps
from ..kinds import KINDS, PAIR_KEYS
from ..tokens import TokenGrid

Holds = bool | Tensor
"""Whether a call counts; a tensor is boolean and 0-dim."""
Count = float | Tensor
"""How many calls or evaluations count; a tensor is 0-dim."""


def zero_unless(holds: Holds, value: Tensor) -> Tensor:
    """The value, or 0 where its call does not count."""
    return value if isinstance(holds, bool) else torch.where(holds.to(value.device), value, 0)


def either(one: Holds, other: Holds) -> Holds:
    """Whether one of two calls counts."""
    if one is True or other is True:
        return True
    return other if one is False else one | other


class StepSums:
    """Sums over the calls of one step, each ``[items, heads, cells]``, on the model's device.

    A map in the paper's normalization is the mean of those calls in which it is not 0 as a whole, as that of a
    conditioning is whose area lies outside the scope. Calls of one evaluation of the denoiser are parts of one result:
    their shares add up.
    """

    def __init__(self) -> None:
        self.maps: dict[str, Tensor] = {}
        self._nonzero_calls: dict[str, Tensor] = {}  # [items], of each map in the paper's normalization
        self._past: Count = 0  # evaluations that count, without the last one
        self._last: Holds = False  # whether the last one does: if any of its calls does
        self._evaluation: int | None = None  # number of the last one

    def add(self, marginals: Marginals, heads_kept: bool, evaluation: int | None, holds: Holds) -> None:
        """Add a call. ``evaluation`` is the number of the one it is part of, None where it is all of one."""
        sums, nonzero_calls = {}, {}
        for kind in KINDS:
            value = getattr(marginals, kind.key)
            if value is not None:
                value = zero_unless(holds, (value if heads_kept else value.mean(1, keepdim=True)).float())
                sums[kind.key] = self.maps[kind.key] + value if kind.key in self.maps else value
                if kind.normalization == "paper":
                    nonzero_calls[kind.key] = value.flatten(1).any(1) + self._nonzero_calls.get(kind.key, 0)
        self.maps |= sums  # all or none: a shape that does not fit has raised before
        self._nonzero_calls |= nonzero_calls
        if evaluation is None or evaluation != self._evaluation:
            self._past, self._last = self.evaluations, holds
        else:
            self._last = either(self._last, holds)
        self._evaluation = evaluation

    @property
    def evaluations(self) -> Count:
        """How many count."""
        return self._past + (int(self._last) if isinstance(self._last, bool) else self._last)

    def mean(self, key: str, evaluations: int) -> Tensor:
        """The mean of a map over the step; ``evaluations`` is the value of that property as a number, at least 1."""
        if key in self._nonzero_calls:
            return self.maps[key] / self._nonzero_calls[key].clamp(min=1)[:, None, None]
        return self.maps[key] / evaluations

    def merge_heads(self) -> None:
        self.maps = {name: total.mean(1, keepdim=True) for name, total in self.maps.items()}

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in self.maps.values())


class PairSums:
    """Pair maps ``[items, A, M]``: the mean over steps of the mean over the calls of a step.

    The sum over the calls of the present step is on the model's device, the sum over steps on the CPU: twice the memory
    of the result. Of maps, ``Recorder`` keeps two steps open; pair maps are too large for that. So a step that the
    sampler returns to after another one counts once more, with the part that the new calls are of all calls of the
    step so far.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows  # [A]
        self._over_steps: dict[str, Tensor] = {}
        self._weight: Count = 0  # of all steps in ``_over_steps``
        self._over_calls: dict[str, Tensor] = {}
        self._step: int | None = None
        self._calls: Count = 0  # that count, in ``_over_calls``
        self._calls_of_closed: dict[int, Count] = defaultdict(int)  # by step
        self.revisited = False  # whether the sampler returned to a step after another one

    def add(self, step: int, marginals: Marginals, holds: Holds) -> None:
        """Add a call of a step; that of the step before is closed."""
        if step != self._step:
            self.close()
            self._step = step
        for key in PAIR_KEYS:
            value = zero_unless(holds, getattr(marginals, key).float())
            self._over_calls[key] = self._over_calls[key] + value if key in self._over_calls else value
        self._calls = self._calls + (int(holds) if isinstance(holds, bool) else holds)

    def close(self) -> None:
        """End the present step: its mean goes to the CPU."""
        if self._step is None:
            return
        self.revisited |= self._step in self._calls_of_closed
        all_calls = self._calls_of_closed[self._step] + self._calls
        weight = _ratio(self._calls, all_calls)  # 1, but for a step that the sampler returned to
        factor = _ratio(1, all_calls)  # the mean of these calls times the weight is their sum times this
        for key in PAIR_KEYS:
            mean = (self._over_calls.pop(key) * factor).to("cpu")
            self._over_steps[key] = self._over_steps[key].add_(mean) if key in self._over_steps else mean
        self._weight = self._weight + weight
        self._calls_of_closed[self._step] = all_calls
        self._step, self._calls = None, 0

    def means(self) -> dict[str, Tensor]:
        """The pair maps by their keys; empty where no call counts. Waits for the device."""
        self.close()
        weight = float(self._weight)
        return {key: total.div_(weight) for key, total in self._over_steps.items()} if weight else {}


def _ratio(count: Count, all_calls: Count) -> Count:
    """``count / all_calls``, and 0 where there are none."""
    if isinstance(all_calls, Tensor):
        return count / all_calls.clamp(min=1)
    return count / all_calls if all_calls else 0


class BinSums:
    """Sums over the steps of each time bin, ``[items, bins, heads, cells]``, on the CPU."""

    def __init__(self, like: StepSums, bins: Sequence[range]) -> None:
        self.lengths = torch.tensor([float(len(b)) for b in bins])  # in steps
        self.seen = torch.zeros(len(bins))  # steps that were added
        self.maps = {name: torch.zeros(x.shape[0], len(bins), x.shape[1], x.shape[2]) for name, x in like.maps.items()}

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in self.maps.values())

    def add(self, step: StepSums, bin_number: int, evaluations: int) -> None:
        """Add the mean of a step to its bin; see ``StepSums.mean``."""
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
        """The means; the sums are used up."""
        weight = self.seen.clamp(min=1)[None, :, None, None]
        means = {} if pairs is None else pairs.means()
        return LayerMaps(
            maps={name: total.div_(weight) for name, total in self.maps.items()},
            seen=torch.minimum(self.seen, self.lengths),  # a step that was closed twice counts once
            pair_rows=pairs.rows if pairs is not None and means else None,
            pairs=means,
            reference_grid=reference_grid,
        )

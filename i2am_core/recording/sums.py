"""Running sums of the maps of one layer for one reference: over the calls of a step, over steps, and of pair maps.

A call may count only if a verdict holds, which is a boolean on the device. To read it would be to wait for the device:
so values are chosen there, and counts of such calls are tensors on the device, where other counts are numbers.
"""

import copy
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..attention.marginals import Marginals
from ..attention.on_device import runs_alone
from ..attention.stacked import Maps, Part, StackedCall, Values
from ..half import Half, Precise
from ..kinds import KIND_OF, KINDS, PAIR_KEYS
from .detail import Extent, Resolution
from .transfer import to_host

HOST = torch.device("cpu")
NOTHING: Mapping[str, Any] = MappingProxyType({})
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


@dataclass(frozen=True)
class Axes:
    """The axes that the maps of one layer and reference keep, and the precision in which their sums are stored."""

    resolution: Resolution
    extent: Extent

    def values(self, maps: Maps) -> Values:
        """The maps of one call, each as means over the axes that are not kept: of calls made together once for all."""

        def merged(made: Marginals) -> dict[str, Tensor]:
            given = {kind.key: getattr(made, kind.key) for kind in KINDS}
            return {key: self.merged(key, x.float()) for key, x in given.items() if x is not None}

        if isinstance(maps, StackedCall):
            axes = self.resolution.heads, self.resolution.frames, *self.extent.frames.values()
            return maps.once(("values", *axes), merged)
        return merged(maps)

    def merged(self, key: str, maps: Tensor) -> Tensor:
        """Maps ``[..., heads, cells]`` as means over the axes that are not kept."""
        if not self.resolution.heads and maps.shape[-2] > 1:
            maps = maps.mean(-2, keepdim=True)
        frames = self.extent.frames[key]
        if not self.resolution.frames and frames > 1 and maps.shape[-1] == self.extent.cells[key]:
            maps = maps.unflatten(-1, (frames, -1)).mean(-2)
        return maps

    def unfilled(self, *shape: int, device: torch.device = HOST) -> Precise:
        """Closed sums of this shape, in which there may be anything."""
        if not self.resolution.half:
            return torch.empty(shape, device=device)
        return Half(torch.empty(shape, dtype=torch.float16, device=device), torch.empty(*shape[:-1], 1, device=device))

    def stored(self, maps: Tensor, is_open: bool = False) -> Precise:
        """Sums of a step that is open, or of closed ones, in their precision."""
        half = self.resolution.half_open if is_open else self.resolution.half
        return Half.of(maps) if half else maps


class StepSums:
    """Sums over the calls of one step, each ``[items, heads, cells]``, on the model's device.

    A map in the paper's normalization is the mean of those calls in which it is not 0 as a whole, as that of a
    conditioning is whose area lies outside the scope; of a reference that is ``off``, the 0 counts. Calls of one
    evaluation of the denoiser are parts of one result: their shares add up.
    """

    __slots__ = (
        *("maps", "in_parts", "roundings"),
        *("_nonzero_calls", "_past", "_last", "_evaluation", "_only", "_maps_sent", "_counts_sent"),
    )

    def __init__(self) -> None:
        self.maps: Mapping[str, Precise | Part] = NOTHING
        self.in_parts = False  # whether any evaluation had several calls
        self.roundings = 0  # how often a sum was rounded to half precision, at most
        self._nonzero_calls: Mapping[str, Tensor] = NOTHING  # [items], of each map in the paper's normalization
        self._past: Count = 0  # evaluations that count, without the last one
        self._last: Holds = False  # whether the last one does: if any of its calls does
        self._evaluation: int | None = None  # number of the last one
        self._only: tuple[Holds, bool] | None = None  # of a call that is the only one so far, if it counts and is off
        self._maps_sent: tuple[str, ...] = ()
        self._counts_sent: tuple[str, ...] = ()

    def add(self, maps: Maps, axes: Axes, evaluation: int | None, holds: Holds = True, off: bool = False) -> None:
        """Add a call. ``evaluation`` is the number of the one it is part of, None where it is all of one."""
        values = axes.values(maps)
        if not self.maps and not axes.resolution.half_open:
            self.maps, self._only = values, (holds, off)
        else:
            self._prepare_sums()
            self._sum(values, axes, holds, off)
        if evaluation is None or evaluation != self._evaluation:
            self._past, self._last = self.evaluations + 0, holds  # a boolean becomes a number
        else:
            self.in_parts = True
            self._last = either(self._last, holds)
        self._evaluation = evaluation

    def _sum(self, values: Mapping[str, Tensor | Part], axes: Axes, holds: Holds, off: bool) -> None:
        sums, nonzero_calls = {}, {}
        for key, x in values.items():
            value = zero_unless(holds, x.float())
            sums[key] = axes.stored(self.maps[key].float() + value if key in self.maps else value, is_open=True)
            if KIND_OF[key].normalization == "paper":
                nonzero_calls[key] = _nonzero(value, off) + self._nonzero_calls.get(key, 0)
        self.roundings += axes.resolution.half_open
        self.maps = {**self.maps, **sums}  # all or none: a shape that does not fit has raised before
        self._nonzero_calls = {**self._nonzero_calls, **nonzero_calls}

    def _prepare_sums(self) -> None:
        """Make of an only call what others can be added to. Most steps have one, of which nothing is computed."""
        if self._only is None:
            return
        (holds, off), self._only = self._only, None
        maps = {key: zero_unless(holds, x.float()) for key, x in self.maps.items()}
        of_paper = [key for key in maps if KIND_OF[key].normalization == "paper"]
        self.maps, self._nonzero_calls = maps, {key: _nonzero(maps[key], off) for key in of_paper}

    @property
    def evaluations(self) -> Count:
        """How many count."""
        last = int(self._last) if isinstance(self._last, bool) else self._last
        return last if isinstance(self._past, int) and self._past == 0 else self._past + last

    def sent(self, stays: bool) -> list[Tensor | Part]:
        """What goes to the host, together with that of others: see ``bring``. Nothing of it is used here until then.

        Of maps that stay where they are, it is whether they count.
        """
        evaluations, maps, counts = self.evaluations, self.maps, self._nonzero_calls
        moved, counted = _on_device(maps, stays), _on_device(counts, stays)
        self._maps_sent, self._counts_sent = moved, counted
        values: list[Tensor | Part] = [x.float() if isinstance(x, Half) else x for x in (maps[key] for key in moved)]
        values += [counts[key] for key in counted]
        if moved or counted:
            self.maps = {key: x for key, x in maps.items() if key not in moved}
            self._nonzero_calls = {key: x for key, x in counts.items() if key not in counted}
        return [*values, evaluations] if isinstance(evaluations, Tensor) else values

    def bring(self, on_host: Iterator[Tensor]) -> int:
        """Take from ``on_host`` what was ``sent``; returns how many evaluations count."""
        if self._maps_sent or self._counts_sent:
            self.maps = {**self.maps, **{key: next(on_host) for key in self._maps_sent}}
            self._nonzero_calls = {**self._nonzero_calls, **{key: next(on_host) for key in self._counts_sent}}
        evaluations = self.evaluations
        return int(next(on_host) if isinstance(evaluations, Tensor) else evaluations)

    def leave_device(self) -> None:
        """Come to the host, one by one: where a device is short of memory."""
        self.maps = {key: x.float().cpu() for key, x in self.maps.items()}
        self._nonzero_calls = {key: x.cpu() for key, x in self._nonzero_calls.items()}

    def mean(self, key: str, evaluations: int) -> Tensor:
        """The mean of a map over the step; ``evaluations`` is the value of that property as a number, at least 1."""
        total = self.maps[key].float()
        if self._only is not None:
            return total
        if key in self._nonzero_calls:
            return total / self._nonzero_calls[key].clamp(min=1)[:, None, None]
        return total / evaluations

    def to(self, axes: Axes) -> "StepSums":
        """The same sums with fewer axes."""
        self._prepare_sums()
        coarser = copy.copy(self)
        coarser.roundings += axes.resolution.half_open
        coarser.maps = {key: axes.stored(axes.merged(key, x.float()), is_open=True) for key, x in self.maps.items()}
        return coarser


def _on_device(values: Mapping[str, Precise | Part], stays: bool) -> tuple[str, ...]:
    """The keys of those that are on a device, and do not stay there."""
    return () if stays else tuple(key for key, x in values.items() if runs_alone(_memory(x)))


def _memory(maps: Precise | Part) -> Tensor:
    """What lies where the maps lie."""
    if isinstance(maps, Part):
        return maps.whole
    return maps.scale if isinstance(maps, Half) else maps


def _nonzero(value: Tensor, off: bool) -> Tensor:
    """1 for items in which a map ``[items, ...]`` is not 0 as a whole, or is one of a reference that is off."""
    return (value.flatten(1).any(1) | off).int()


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
        """Add a call of a step. That of the step before must be closed: see ``close_all``."""
        self._step = step
        for key in PAIR_KEYS:
            value = zero_unless(holds, getattr(marginals, key).float())
            self._over_calls[key] = self._over_calls[key] + value if key in self._over_calls else value
        self._calls = self._calls + (int(holds) if isinstance(holds, bool) else holds)

    def on_device(self) -> list[Tensor]:
        """What there is of the present step, for the host."""
        return [*self._over_calls.values(), *([self._calls] if isinstance(self._calls, Tensor) else [])]

    def close(self, on_host: Iterator[Tensor]) -> None:
        """End the present step, if there is one: take from ``on_host`` what ``on_device`` gave."""
        if self._step is None:
            return
        sums, self._over_calls = {key: next(on_host) for key in self._over_calls}, {}
        calls = next(on_host) if isinstance(self._calls, Tensor) else self._calls
        self.revisited |= self._step in self._calls_of_closed
        all_calls = self._calls_of_closed[self._step] + calls
        factor = _ratio(1, all_calls)  # the mean of these calls times the weight is their sum times this
        for key, total in sums.items():
            mean = total * factor
            self._over_steps[key] = self._over_steps[key].add_(mean) if key in self._over_steps else mean
        self._weight = self._weight + _ratio(calls, all_calls)  # 1, but for a step that the sampler returned to
        self._calls_of_closed[self._step] = all_calls
        self._step, self._calls = None, 0

    @property
    def nbytes(self) -> int:
        """Bytes of both sums."""
        return sum(x.nbytes for x in (*self._over_calls.values(), *self._over_steps.values()))

    def means(self) -> dict[str, Tensor]:
        """The pair maps by their keys; empty where no call counts. All steps must be closed."""
        weight = float(self._weight)
        return {key: total.div_(weight) for key, total in self._over_steps.items()} if weight else {}


def _ratio(count: Count, all_calls: Count) -> Count:
    """``count / all_calls``, and 0 where there are none."""
    if isinstance(all_calls, Tensor):
        return count / all_calls.clamp(min=1)
    return count / all_calls if all_calls else 0


def close_all(pairs: Collection[PairSums]) -> None:
    """End the present step of these: its means go to the CPU, those of a device together, so that it waits once."""
    on_device = [one for one in pairs if any(map(runs_alone, one.on_device()))]
    for together in (on_device, *([one] for one in pairs if one not in on_device)):  # on the CPU that takes less memory
        on_host = iter(to_host([x for one in together for x in one.on_device()]))
        for one in together:
            one.close(on_host)


def _put(total: Precise, at: int, value: Tensor) -> None:
    """Put a value into a bin of sums, which is not read: there may be anything in it."""
    if isinstance(total, Half):
        total[:, at] = value
    else:
        total.select(1, at).copy_(value)


def _add(total: Precise, at: int, mean: Tensor, weight: float) -> None:
    """Add a mean, times its weight, to a bin of sums: in full precision without another copy of it."""
    if isinstance(total, Half):
        total[:, at] = total[:, at].float() + weight * mean
    else:
        total.select(1, at).add_(mean, alpha=weight)


class Additions:
    """What is to be added to sums on a device: at once, since it is then a few kernels for all layers."""

    def __init__(self) -> None:
        self._by_weight: defaultdict[float, tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))

    def put(self, total: Precise, at: int, mean: Tensor, weight: float) -> None:
        """A mean, times its weight, for a bin of sums. On the host it is added now."""
        if isinstance(total, Half) or not runs_alone(total):
            _add(total, at, mean, weight)
            return
        totals, means = self._by_weight[weight]
        totals.append(total.select(1, at))
        means.append(mean)

    def add(self) -> None:
        """Add all of it."""
        for weight, (totals, means) in self._by_weight.items():
            torch._foreach_add_(totals, means, alpha=weight)
        self._by_weight.clear()


class BinSums:
    """Sums over the steps of each time bin, ``[items, bins, heads, cells]``, which lie where what is added lies.

    A step that the sampler returned to is added once more: in a bin of several steps, with the part that its new
    evaluations are of all.
    """

    def __init__(self, bins: Sequence[range]) -> None:
        self.bins = bins
        self.maps: dict[str, Precise] = {}
        self.roundings = [0] * len(bins)  # how often a part of each sum was rounded to half precision, at most
        self._seen = [0.0] * len(bins)
        self._weight = [0.0] * len(bins)
        self._evaluations: Counter[int] = Counter()  # by step
        self._empty: dict[str, set[int]] = {}  # bins of each map into which nothing was put yet, not even 0

    @property
    def seen(self) -> Tensor:
        """How many steps were added to each bin, ``[bins]``."""
        return torch.tensor(self._seen)

    def add(self, number: int, step: StepSums, evaluations: int, axes: Axes, additions: Additions) -> None:
        """Add the mean of the step of this number to its bin, with the ``additions``; see ``StepSums.mean``."""
        means = {key: step.mean(key, evaluations) for key in step.maps}  # before anything counts: memory may be short
        for key, mean in means.items():
            if key not in self.maps:  # as large as all maps of the run: it is filled once, and not with 0 before
                shape = mean.shape[0], len(self.bins), *mean.shape[1:]
                self.maps[key] = axes.unfilled(*shape, device=mean.device)
                self._empty[key] = set(range(len(self.bins)))
        at, before = self._bin_of(number), self._evaluations[number]
        weight = 1.0 if len(self.bins[at]) == 1 else evaluations / (before + evaluations)
        self._evaluations[number] += evaluations
        self._weight[at] += weight
        self._seen[at] += not before
        self.roundings[at] = max(self.roundings[at], step.roundings) + axes.resolution.half
        for key, mean in means.items():
            if at in self._empty[key]:
                self._empty[key].discard(at)
                _put(self.maps[key], at, weight * mean if weight != 1 else mean)
            else:
                additions.put(self.maps[key], at, mean, weight)

    def add_zero(self, number: int) -> None:
        """Add 0 for the step of this number, unless anything of it was added."""
        if not self._evaluations[number]:
            at = self._bin_of(number)
            self._evaluations[number] = 1
            self._weight[at] += 1
            self._seen[at] += 1

    def _bin_of(self, number: int) -> int:
        """The bin that a step is in."""
        return next(n for n, steps in enumerate(self.bins) if number in steps)

    def _fill(self) -> None:
        """Put 0 into bins that are empty, of sums on the host."""
        for key, bins in self._empty.items():
            for at in bins:
                total = self.maps[key]
                _put(total, at, torch.zeros(total.shape[0], *total.shape[2:]))
            bins.clear()

    def to(self, axes: Axes, bins: Sequence[range]) -> "BinSums":
        """The same sums with fewer axes, and in fewer bins. They must be on the host."""
        self._fill()
        coarser = BinSums(bins)
        into = [coarser._bin_of(old.start) for old in self.bins]
        coarser._evaluations = self._evaluations.copy()
        for old, at in enumerate(into):
            coarser._seen[at] += self._seen[old]
            coarser._weight[at] += self._weight[old]
            coarser.roundings[at] = max(coarser.roundings[at], self.roundings[old] + axes.resolution.half)
        for key, total in self.maps.items():
            value = axes.merged(key, total.float())
            by_bin = value.new_zeros(value.shape[0], len(bins), *value.shape[2:])
            coarser.maps[key] = axes.stored(by_bin.index_add_(1, torch.tensor(into), value))
            coarser._empty[key] = set()
        return coarser

    def means(self) -> dict[str, Precise]:
        """The means; the sums are used up."""
        self._fill()
        weight = torch.tensor(self._weight).clamp(min=1)[None, :, None, None]
        if bool((weight == 1).all()):  # nothing to divide by: one pass less over all maps of the run
            return dict(self.maps)
        return {key: total.div_(weight) for key, total in self.maps.items()}

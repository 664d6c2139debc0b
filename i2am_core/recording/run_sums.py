"""The sums of all layers and references over the steps of a run, in one resolution."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from ..attention.on_device import runs_alone
from ..attention.stacked import Maps
from ..half import ROUNDING, Precise
from .account import Account, Judgement
from .budget import merged
from .detail import Extent, Key, Resolution
from .sums import Additions, Axes, BinSums, Holds, StepSums
from .transfer import to_host

log = logging.getLogger(__name__)


class RunSums:
    """Sums by keys, each of a layer and a reference whose ``extents`` are known.

    Sums of the last steps stay on the model's device; older steps are closed, and move to the CPU: they are sent, and
    what the host does with them it does in ``catch_up``, when a GPU has work, or else when the next step is closed. Of
    a resolution that ``stays``, it is the sum over all of these that comes to the host, when it is ``settled``; unless
    the device is short of memory, or sums were on the host before the resolution was this one.
    """

    def __init__(self, steps: int, resolution: Resolution, extents: Mapping[Key, Extent]) -> None:
        self.steps, self.resolution, self.extents = steps, resolution, extents
        self.bins: Sequence[range] = [range(n, n + 1) for n in range(steps)]
        while len(self.bins) > resolution.bins:
            self.bins = merged(self.bins)
        self.open: dict[int, dict[Key, StepSums]] = {}  # by step
        self._closed: dict[Key, BinSums] = {}
        self._axes_of: dict[Key, Axes] = {}
        self._on_its_way: Callable[[], None] | None = None  # ends the step that is
        self.stays = resolution.stays
        self.returned = False  # whether a step got calls after it was closed
        self._were_closed: set[int] = set()
        self._in_parts = False  # whether any evaluation had several calls

    def add(
        self, key: Key, step: int, maps: Maps, evaluation: int | None, holds: Holds = True, off: bool = False
    ) -> None:
        """Add a call; see ``StepSums``."""
        self.returned |= step in self._were_closed
        of_step = self.open.setdefault(step, {})
        if (sums := of_step.get(key)) is None:
            sums = of_step[key] = StepSums()
        sums.add(maps, self._axes(key), evaluation, holds, off)
        self._in_parts |= sums.in_parts

    def close_old(self, account: Account, current: int) -> None:
        """Close steps, the first ones, until there are no more open ones than the resolution says.

        Calls that are parts of one evaluation must be summed before they are closed: the ``current`` step, to which a
        sampler may have returned, then stays.
        """
        while len(self.open) > self.resolution.open_steps:
            self.close(min(step for step in self.open if not self._in_parts or step != current), account)

    def close(self, step: int, account: Account) -> None:
        """Send the sums of a step to the CPU. Does not wait for them, but for those of the step before."""
        self.catch_up()
        closing = self.open.pop(step)
        self._were_closed.add(step)
        judgement = account.send([x for sums in closing.values() for x in sums.sent(self.stays)])
        self._on_its_way = partial(self._bring, step, closing, judgement)

    def _bring(self, step: int, closing: dict[Key, StepSums], judgement: Judgement) -> None:
        """Put the sums of a step into its bin."""
        on_host, additions = iter(judgement.end()), Additions()
        try:
            for key in list(closing):
                sums = closing.pop(key)  # its memory is free as soon as it is added
                if evaluations := sums.bring(on_host):
                    self._close_one(key, step, sums, evaluations, additions)
        finally:
            additions.add()

    def _close_one(self, key: Key, step: int, sums: StepSums, evaluations: int, additions: Additions) -> None:
        """Put the sums of one key into its bin. Where they stay on a device that is short of memory, all leave it."""
        axes = self._axes(key)
        if (bins := self._closed.get(key)) is None:
            bins = self._closed[key] = BinSums(self.bins)
        if self.stays:
            try:
                bins.add(step, sums, evaluations, axes, additions)
                return
            except torch.cuda.OutOfMemoryError:
                log.info("sums over all steps come to the host: the device has no memory for them")
                self.stays = False
                additions.add()
                self._settle()
        if self.resolution.stays:
            sums.leave_device()
        bins.add(step, sums, evaluations, axes, additions)

    def catch_up(self) -> None:
        """Put the step that is on its way into its bin. Waits for its transfer."""
        bring, self._on_its_way = self._on_its_way, None
        if bring is not None:
            bring()

    def settle(self) -> None:
        """Bring to the host what stayed on a device, when all steps are closed. Waits for it, once."""
        self.catch_up()
        self._settle()

    def _settle(self) -> None:
        stayed = [
            (sums, key, x)
            for sums in self._closed.values()
            for key, x in sums.maps.items()
            if isinstance(x, Tensor) and runs_alone(x)
        ]
        for (sums, key, _), x in zip(stayed, to_host([x for *_, x in stayed]), strict=True):
            sums.maps[key] = x.clone()  # in memory of its own: what a transfer is made into is one for all

    @property
    def closed(self) -> dict[Key, BinSums]:
        """The sums of all steps that are closed, by key. Waits for one that is on its way."""
        self.catch_up()
        return self._closed

    def to(self, resolution: Resolution, free: bool) -> "RunSums":
        """The same sums in a coarser resolution. ``free`` gives up these, one by one."""
        coarser = RunSums(self.steps, resolution, self.extents)
        coarser.returned = self.returned
        coarser._were_closed, coarser._in_parts = set(self._were_closed), self._in_parts
        for step, sums_of_step in self.open.items():
            coarser.open[step] = {}
            for key in list(sums_of_step):
                sums = sums_of_step.pop(key) if free else sums_of_step[key]
                coarser.open[step][key] = sums.to(coarser._axes(key))
        if free and self.resolution.closed == resolution.closed:  # as they are, wherever they are
            coarser._closed, coarser.stays = self.closed, self.stays
            return coarser
        self.settle()
        coarser.stays = resolution.stays and not self._closed
        for key in list(self._closed):
            coarser._closed[key] = self._closed[key].to(coarser._axes(key), coarser.bins)
            if free:
                del self._closed[key]
        return coarser

    def forget(self, keys: Sequence[Key]) -> None:
        """Give up what was summed of these keys."""
        for key in keys:
            self.closed.pop(key, None)
            for sums in self.open.values():
                sums.pop(key, None)

    @property
    def nbytes(self) -> int:
        """Bytes of all sums."""
        closed = (x for sums in self.closed.values() for x in sums.maps.values())
        still_open = (x for by_key in self.open.values() for sums in by_key.values() for x in sums.maps.values())
        return sum(x.nbytes for x in closed) + sum(x.nbytes for x in still_open)

    @property
    def error(self) -> float:
        """How far a value of what is closed may be off, relative to it: sums only grow, so no rounding is of more."""
        return ROUNDING * max((n for sums in self.closed.values() for n in sums.roundings), default=0)

    def means(self, key: Key) -> dict[str, Precise]:
        """The maps of a key, ``[items, bins, heads, cells]``; its sums are used up."""
        return self.closed[key].means() if key in self.closed else {}

    def _axes(self, key: Key) -> Axes:
        axes, extent = self._axes_of.get(key), self.extents[key]
        if axes is None or axes.extent is not extent:
            axes = self._axes_of[key] = Axes(self.resolution, extent)
        return axes

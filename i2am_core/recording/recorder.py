"""Running sums while a sampler runs, within a budget of memory. Only this makes an ``Attribution``."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..attention.marginals import Marginals
from ..attention.stacked import Maps, Values, alone
from ..attribution import Attribution, HeadDetail, Layer, LayerMaps, Reference
from ..kinds import KIND_OF
from ..tokens import TokenGrid
from .account import UNNAMED, Account, CapturedCall, ComputedBy, Verdict
from .budget import PAIR_SHARE, Budget
from .detail import Extent, Key
from .notes import notes_of
from .off import OffAccount
from .references import References
from .run_sums import RunSums
from .shares import Shares
from .so_far import Steps, sent
from .steps import How, StepAccount
from .sums import Holds, PairSums, close_all

__all__ = ["PAIR_SHARE", "Place", "Recorder", "Verdict"]

OVER_BUDGET = "the maps take more than their memory budget, although steps and heads were merged"


@dataclass(frozen=True)
class Place:
    """What the maps of one call are of."""

    layer: Layer
    step: int
    reference: int  # the number that ``Recorder.reference`` gave
    evaluation: int | None = None  # calls with the same number are parts of one evaluation: their shares add up
    reference_grid: TokenGrid | None = None  # of the reference in this layer


class Recorder:
    """Sums up the marginals of attention calls by reference, layer and step. Safe in several threads.

    ``sigmas [steps + 1]`` are the sampler's, ``items`` is the number of pictures, ``budget_bytes`` is for the sums,
    ``caches`` are the names of those that may answer steps of the run.

    Calls of one step are averaged, so that every step weighs the same, in maps and in pair maps. A reference that was
    observed to be off counts as 0, in all maps: what is not known is left out, what is known to be nothing is not. So
    the mean of a map of the paper sums to less than 1, and keeps its form. Sums of the last steps stay on the model's
    device, and older ones move to the CPU, but for a sum over all steps. What the whole run will take is known as soon
    as its layers and references have turned up: the finest ``detail`` that fits the budget is kept.
    """

    def __init__(self, sigmas: Tensor, items: int, budget_bytes: int, caches: Collection[str] = ()) -> None:
        # Attention without a sampler is of one step.
        self.sigmas = sigmas.float().cpu() if len(sigmas) > 1 else torch.zeros(2)
        self.items = items
        self._budget = Budget(budget_bytes, self.steps)
        self._detail = self._budget.finest
        self._sums = self._new_sums()
        self._lock = threading.RLock()
        self._references = References()
        self._account = Account()
        self._off = OffAccount()
        self._shares = Shares()
        self._steps = StepAccount(self.sigmas.tolist(), caches)
        self._zeros: dict[tuple[int, int], str] = {}  # references and steps that are 0, and why
        self._layers: dict[Layer, int] = {}
        self._grids: dict[Key, TokenGrid | None] = {}
        self._pairs: dict[Key, PairSums] = {}
        self._new_steps: set[int] = set()  # that have got calls since ``new_steps``
        self._pair_step: int | None = None  # the step whose pair maps are summed on the device

    @property
    def chunk_bytes(self) -> int:
        """How much memory ``attribute`` should use at a time in this run."""
        return self._budget.chunk_bytes

    @property
    def nbytes(self) -> int:
        """Bytes of all sums at present, on any device."""
        with self._lock:
            return sum(sums.nbytes for sums in self._sums) + sum(pairs.nbytes for pairs in self._pairs.values())

    @property
    def steps(self) -> int:
        """How many steps the run has, at least 1."""
        return len(self.sigmas) - 1

    @property
    def references(self) -> tuple[Reference, ...]:
        """By number, as they are known so far; ``freeze`` leaves out those of which nothing was captured."""
        with self._lock:
            return self._references.known

    @property
    def calls(self) -> int:
        """How many were captured so far. Like ``skipped`` and ``notes`` it waits for the device: not in a hot path."""
        with self._lock:
            self._account.judge()
            return self._account.calls

    @property
    def has_no_call(self) -> bool:
        """Whether no call was captured or skipped so far. It waits for nothing."""
        with self._lock:
            return self._account.is_empty

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many calls were skipped so far, by the reason."""
        with self._lock:
            self._account.judge()
            return self._account.skipped

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of this run, so far."""
        with self._lock:
            self._account.judge()
            return self._account.notes

    @property
    def mechanisms(self) -> Sequence[str]:
        """Names of those that captured anything so far."""
        with self._lock:
            self._account.judge()
            return self._account.mechanisms

    def reserve(self, nbytes: int) -> None:
        """Leave so many bytes of the budget to something else of the run, before its first call."""
        with self._lock:
            self._budget.reserve(nbytes)

    def number_of(self, reference: Reference) -> int | None:
        """The number of a reference, None where none like it is known. Nothing changes by it."""
        with self._lock:
            return self._references.find(reference)

    @property
    def counted(self) -> list[int]:
        """The numbers of those references that would be in the attribution if it were frozen now."""
        with self._lock:
            return self._references.counted

    def given(self, references: Sequence[Reference]) -> None:
        """The given references of the run, before its first call: they are numbered first, in this order.

        They stay in the frozen attribution even if nothing of them was captured. Their grids and tokens become those of
        the calls that read them, the largest ones. Raises RuntimeError where references are numbered already.
        """
        with self._lock:
            self._references.give(references)

    def reference(self, reference: Reference) -> int:
        """The number of a reference, be it new or known. The largest of its grids is kept."""
        with self._lock:
            return self._references.number(reference)

    def was_read(self, reference: int) -> bool:
        """Whether any captured call read it, and so not one that is off in all of them."""
        with self._lock:
            return self._off.was_read(reference, self._account.retracted)

    def pairs_fit(self, reference: int, layer: Layer, rows: int, tokens: int) -> bool:
        """Whether the pair maps of a layer, of so many rows and tokens, fit: layers are first come, first served."""
        with self._lock:
            return self._budget.pairs_fit((reference, layer), self.items * rows * tokens)

    def add(self, place: Place, maps: Maps, pair_rows: Tensor | None = None, verdicts: Sequence[Verdict] = ()) -> None:
        """Add the maps of one call, of all items: ``[items, heads, ...]``.

        ``pair_rows [A]`` are the positions of its pair maps, if it has any. Where a verdict fails, nothing is added.
        Raises BadAttention for maps of another size than earlier ones of this layer and reference.
        """
        key, holds = (place.reference, place.layer), _all_hold(verdicts)
        with self._lock:
            if self._account.is_retracted(place.layer.name):
                return
            self._off.read(place.reference, place.step, place.layer.name)
            self._add(place, maps, holds)
            if pair_rows is not None:
                self._add_pairs(key, place.step, alone(maps), pair_rows, holds)

    def shares(
        self,
        place: Place,
        means: Values,
        verdicts: Sequence[Verdict] = (),
        weight: Tensor | None = None,
    ) -> None:
        """Add whose part of the attention of one call is how large, as means ``[items, 2]`` over positions.

        They are over all positions, and over those in the mask; of a call that makes a part of the picture alone they
        are times that part, the ``weight`` of the same shape. Where a verdict fails, nothing is added.
        """
        with self._lock:
            if not self._account.is_retracted(place.layer.name):
                self._shares.add(place.layer, place.step, means, _all_hold(verdicts), weight)

    def off(self, place: Place, zero: Marginals, mechanism: str, reason: str, pair_rows: Tensor | None = None) -> None:
        """Add 0 of a reference that ``mechanism`` observed to be off there, for this reason: ``zero`` are its maps.

        It is no attention call, and none is counted. ``zero`` and ``pair_rows`` are as for ``add``.
        """
        with self._lock:
            if self._account.is_retracted(place.layer.name):
                return
            self._account.off(mechanism)
            self._off.off(place.reference, place.step, place.layer.name, reason)
            self._add(place, zero, off=True)
            if pair_rows is not None:
                self._add_pairs((place.reference, place.layer), place.step, zero, pair_rows, True)

    def off_in_step(self, reference: int, step: int, reason: str) -> None:
        """Count 0 of a reference in a step that was computed without it, in those of its layers that ran in it.

        Pair maps do not know such steps.
        """
        with self._lock:
            self._zeros[reference, step] = reason

    def evaluated(self, step: int, how: How, layers: AbstractSet[str] = frozenset()) -> None:
        """What became of an evaluation in a step, and the ``layers`` whose blocks ran in it."""
        with self._lock:
            self._steps.add(step, how, layers)

    def _add(self, place: Place, maps: Maps, holds: Holds = True, off: bool = False) -> None:
        key = place.reference, place.layer
        is_new = self._budget.add(key, _extent(place, maps))
        self._layers.setdefault(place.layer, len(self._layers))
        self._grids[key] = place.reference_grid
        self._new_steps.add(place.step)
        if is_new:
            self._fit_into_budget(place.step)
        for sums in self._sums:
            sums.add(key, place.step, maps, place.evaluation, holds, off)
            sums.close_old(self._account, place.step)

    def captured(
        self,
        layer: str,
        mechanisms: Sequence[str] = (),
        computed_by: ComputedBy = UNNAMED,
        verdicts: Sequence[Verdict] = (),
        notes: Sequence[str] = (),
        remarks: Sequence[Verdict] = (),
    ) -> None:
        """Count one attention call of one conditioning as captured in this layer, by these mechanisms.

        If a verdict fails, it is a skip with that reason instead, and its notes do not count. A remark that fails is
        one more note.
        """
        with self._lock:
            call = CapturedCall(layer, tuple(mechanisms), computed_by, tuple(verdicts), tuple(notes), tuple(remarks))
            self._account.add(call)

    def skip(self, reason: str, calls: int = 1) -> None:
        """Count calls that were not captured, with the reason in words for a person."""
        with self._lock:
            self._account.skip(reason, calls)

    def retract(self, layers: Sequence[str], reason: str) -> None:
        """Forget what was captured in these layers, since it cannot be trusted: its calls count as skipped."""
        with self._lock:
            self._account.retract(layers, reason)
            self.catch_up()  # what is on its way needs the extents of what is given up
            keys = [key for key in self._grids if self._account.is_retracted(key[1].name)]
            for key in keys:
                self._pairs.pop(key, None)
                self._budget.free(key)
            for sums in self._sums:
                sums.forget(keys)
            self._shares.forget(layers)

    def note(self, *notes: str) -> None:
        """What a person should know of this run. A note that is empty, or was made before, adds nothing."""
        with self._lock:
            self._account.note(*notes)

    def catch_up(self) -> None:
        """Do what the host has to do with steps that are closed: when a device has work, and need not wait for it."""
        with self._lock:
            for sums in self._sums:
                sums.catch_up()

    def new_steps(self) -> Callable[[], Steps]:
        """Send to the host, without waiting, the last steps that have got any call since this: see ``so_far.sent``."""
        with self._lock:
            steps = {step: sums for step, sums in self._sums[0].open.items() if step in self._new_steps}
            self._new_steps.clear()
            return sent(steps)

    def freeze(self, **about: Any) -> Attribution:
        """The finished attribution; ``about`` fills its descriptive fields, such as ``grid`` and ``branch``.

        Once only, since the sums are used up.
        Layers and references of which nothing was captured are left out, but for given references: numbers are those of
        the result's lists. Its mechanism, unless it is in ``about``, is the names of those that captured anything.
        """
        with self._lock:
            for sums in self._sums:
                for step in sorted(sums.open):
                    sums.close(step, self._account)
                sums.settle()
            self._account.judge()
            self._add_zeros()
            close_all(self._pairs.values())
            left_out = {key[1].name for key in self._sums[0].closed if self._budget.lacks_pairs(key)}
            self.note(*notes_of(self._sums, list(self._pairs.values()), sorted(left_out)))
            names = [reference.name for reference in self._references.known]
            self.note(*self._off.notes(names, self.steps, self._account.retracted), *self._steps.notes)
            attribution = Attribution(**self._map_fields(), **self._run_fields() | about)
            # A run's engine is in rings of references: what it has lives until Python looks for such.
            self._sums, self._pairs, self._shares = self._new_sums(), {}, Shares()
            return attribution

    def _add_zeros(self) -> None:
        """In steps that were computed without a reference, when all sums are closed."""
        for (reference, step), reason in self._zeros.items():
            for key in self._sums[0].closed:
                if key[0] == reference and self._steps.ran(step, key[1].name):
                    self._off.off(reference, step, key[1].name, reason)
                    for sums in self._sums:
                        sums.closed[key].add_zero(step)

    def _map_fields(self) -> dict[str, Any]:
        """The fields of an attribution that hold maps, and what they are of."""
        by_step, *by_head = self._sums
        keys = list(by_step.closed)
        numbers, references = self._references.freeze({(r, self._grids[r, layer]) for r, layer in keys})
        captured = {layer for _, layer in keys}
        layers = [layer for layer in self._layers if layer in captured]
        layer_numbers = {layer: number for number, layer in enumerate(layers)}
        entries = {}
        for r, layer in keys:
            pairs = self._pairs.get((r, layer))
            means = {} if pairs is None else pairs.means()
            entries[numbers[r], layer_numbers[layer]] = LayerMaps(
                maps=by_step.means((r, layer)),
                seen=by_step.closed[r, layer].seen,
                pair_rows=pairs.rows if pairs is not None and means else None,
                pairs=means,
                reference_grid=self._grids[r, layer] or references[numbers[r]].grid,
                head_maps=by_head[0].means((r, layer)) if by_head else {},
                off=self._off.steps(r, layer.name),
            )
        shares = self._shares.freeze(layers, self.steps)
        return {"references": tuple(references), "layers": tuple(layers), "entries": entries, "shares": shares}

    def _run_fields(self) -> dict[str, Any]:
        """The other fields, as far as the recorder knows them."""
        return self._account.fields() | {
            "bins": tuple(self._sums[0].bins),
            "sigmas": tuple(self.sigmas.tolist()),
            "items": self.items,
            "heads": self._heads(),
            "not_evaluated": self._steps.not_evaluated,
            "not_looked_at": self._steps.not_looked_at,
        }

    def _heads(self) -> HeadDetail:
        """In what detail heads are kept: that of pictures, where there are no frames to be merged."""
        merged = self._detail.heads == "over steps and frames"
        return "over steps" if merged and not self._budget.has_frames else self._detail.heads

    def _add_pairs(self, key: Key, step: int, marginals: Marginals, rows: Tensor, holds: Holds) -> None:
        if step != self._pair_step:  # also layers that get no more calls must free the device
            close_all(self._pairs.values())
            self._pair_step = step
        self._pairs.setdefault(key, PairSums(rows)).add(step, marginals, holds)

    def _new_sums(self) -> list[RunSums]:
        return [RunSums(self.steps, resolution, self._budget.extents) for resolution in self._detail.resolutions]

    def _fit_into_budget(self, step: int) -> None:
        """Bring the sums to the finest detail in which the whole run fits; the next call is of this step."""
        by_step = self._sums[0]
        detail = self._budget.detail(self._detail, len(by_step.bins) if by_step.closed else self.steps)
        if detail is None:
            self.note(OVER_BUDGET)
            detail = self._budget.coarsest
        if detail == self._detail:
            return
        # Sums that keep heads apart in each step become both: those by step, and those by head.
        origins = [*self._sums, by_step][: len(detail.resolutions)]
        sums = []
        for n, (origin, resolution) in enumerate(zip(origins, detail.resolutions, strict=True)):
            sums.append(origin.to(resolution, free=origin not in origins[n + 1 :]))
        self._detail, self._sums = detail, sums
        for one in sums:
            one.close_old(self._account, step)


def _extent(place: Place, maps: Maps) -> Extent:
    """How large the maps of a call are."""
    frames = {"r2g": place.layer.grid.frames, "g2r": place.reference_grid.frames if place.reference_grid else 1}

    def of(made: Marginals, calls: int = 1) -> Extent:
        sizes = {key: x.shape for key in KIND_OF if (x := getattr(made, key)) is not None}
        items, heads, _ = next(iter(sizes.values()))
        cells = {key: size[-1] for key, size in sizes.items()}
        return Extent(items // calls, heads, cells, {key: frames[KIND_OF[key].direction] for key in sizes})

    if isinstance(maps, Marginals):
        return of(maps)
    stacked = maps.stacked
    return stacked.once(("extent", *frames.values()), lambda made: of(made, stacked.calls))


def _all_hold(verdicts: Sequence[Verdict]) -> Holds:
    """Whether all verdicts hold, without waiting for the device."""
    holds: Holds = True
    for verdict in verdicts:
        holds = verdict.holds if holds is True else holds & verdict.holds
    return holds

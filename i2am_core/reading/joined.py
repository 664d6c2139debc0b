"""Two runs that made one picture, as one: such as of a model for high noise and one for low noise, of base and refiner.

The second went on with the latent where the first ended, so that the steps of both are those of one way down. A map of
a step is what it was. What was merged over steps before (maps of heads, pair maps) becomes the mean in which each step
weighs the same, as it would be had one recorder seen them all.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from ..attribution import HEAD_DETAILS, STEERED, Attribution
from ..errors import NotOneRun
from ..half import ROUNDING
from ..recording.notes import HALF
from ..selection import numbers_text
from .coarser import in_half_precision, with_heads
from .continuity import note_on_latents
from .joined_effects import joined_effects
from .joined_maps import RUNS, JoinedMaps, same_mask
from .joined_numbers import Numbers
from .joined_shares import joined_shares

CLOSE = 1e-3  # two models of one schedule round the same sigma otherwise
BUDGET_BYTES = 512 * 2**20


def join(first: Attribution, second: Attribution, budget_bytes: int = BUDGET_BYTES) -> Attribution:
    """One attribution with the steps of both, those of the higher sigmas first, whichever is given first.

    References and layers that both have are one; a layer that only one has was seen in no step of the other. A
    reference that only one has is 0 in the steps of the other where that observed all that may read one, and is not
    known in them elsewhere. Heads are in the detail of the coarser one. It takes no more than ``budget_bytes``, or than
    both do where that is more. Raises NotOneRun where neither goes on where the other ended, or where their pictures,
    latents or branches differ.
    """
    first, second = _in_order(first, second)
    on_latents = note_on_latents(first, second)
    joined = _joined(*_alike(first, second), on_latents)
    return _within(joined, max(budget_bytes, first.nbytes + second.nbytes))


def _in_order(first: Attribution, second: Attribution) -> tuple[Attribution, Attribution]:
    """The two with the one first that the other goes on with. Raises NotOneRun."""
    if first.items != second.items:
        raise NotOneRun("items", first.items, second.items)
    if first.grid != second.grid:
        raise NotOneRun("grid", first.grid, second.grid)
    if first.branch != second.branch:
        raise NotOneRun("branch", first.branch, second.branch)
    for one, other in ((first, second), (second, first)):
        if math.isclose(one.sigmas[-1], other.sigmas[0], rel_tol=CLOSE):
            return one, other
    if first.sigmas[0] < second.sigmas[0]:
        first, second = second, first
    raise NotOneRun("sigmas", f"{first.sigmas[-1]:.4g}", f"{second.sigmas[0]:.4g}")


def _alike(first: Attribution, second: Attribution) -> tuple[Attribution, Attribution]:
    """Both with heads in one detail. One without maps has every detail."""
    details = [run.heads for run in (first, second) if run.entries] or [first.heads]
    heads = max(details, key=HEAD_DETAILS.index)
    return with_heads(first, heads), with_heads(second, heads)


def _joined(first: Attribution, second: Attribution, on_latents: str) -> Attribution:
    numbers, shift = Numbers.of(first, second), first.steps
    maps = JoinedMaps.of(first, second, numbers)
    effects, of_effects = joined_effects(first, second, numbers)
    last = first.steps + second.steps - 1
    return dataclasses.replace(
        first,
        references=numbers.joined_references,
        layers=numbers.joined_layers,
        entries=maps.entries,
        bins=(*first.bins, *(range(b.start + shift, b.stop + shift) for b in second.bins)),
        sigmas=(*first.sigmas, *second.sigmas[1:]),
        heads=first.heads if first.entries else second.heads,
        denoise_mask=first.denoise_mask if same_mask(first, second) else None,
        mechanism=", ".join(_union(first.mechanisms, second.mechanisms)),
        captured_calls=first.captured_calls + second.captured_calls,
        skipped=_sum(first.skipped, second.skipped),
        given=tuple(dict.fromkeys((*first.given, *second.given))),
        not_evaluated=(*first.not_evaluated, *(step + shift for step in second.not_evaluated)),
        not_looked_at=(*first.not_looked_at, *(step + shift for step in second.not_looked_at)),
        row_sums=_sum(first.row_sums, second.row_sums),
        arithmetic=_sum(first.arithmetic, second.arithmetic),
        notes=(
            f"two runs as one: steps {numbers_text(range(shift))} are of the first, "
            f"{numbers_text(range(shift, last + 1))} of the second",
            *filter(None, [on_latents]),
            *_notes(first, second),
            *maps.notes,
            *of_effects,
        ),
        pictures=numbers.pictures(first, second),
        effects=effects,
        missed=tuple(_union(first.missed, second.missed)),
        shares=joined_shares(first, second, numbers),
        guidance=first.guidance if first.guidance == second.guidance else None,
        all_observed=first.all_observed and second.all_observed,
        began=first.began,
        ended=second.ended,
    )


def _within(joined: Attribution, most: int) -> Attribution:
    """In less detail where it takes more bytes: layers that one run lacks have maps of 0 in its steps."""
    if joined.nbytes > most:
        note = HALF.format("maps", 100 * 2 * ROUNDING)
        joined = dataclasses.replace(in_half_precision(joined), notes=(*joined.notes, note))
    for heads in HEAD_DETAILS[1:]:
        if joined.nbytes <= most:
            break
        joined = with_heads(joined, heads)
    return joined


def _notes(first: Attribution, second: Attribution) -> list[str]:
    """What both runs say, once; and what one of them says, with which it was."""
    notes = []
    for note in _union(first.notes, second.notes):
        by = [run for run, attribution in zip(RUNS, (first, second), strict=True) if note in attribution.notes]
        notes.append(note if len(by) == 2 else f"{note} (the {by[0]} run)")
    return sorted(notes, key=lambda note: not note.startswith(STEERED))


def _union(first: Sequence[str], second: Sequence[str]) -> list[str]:
    return [x for x in dict.fromkeys((*first, *second)) if x]


def _sum(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(first) + Counter(second))

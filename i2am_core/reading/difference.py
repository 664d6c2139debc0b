"""Maps of two runs, A and B, one beside the other: paired by what they are of, on one grid and in one unit."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attribution import Attribution
from ..effect import Owner, Route
from ..errors import EffectTooSmall, Incomparable, InOneRun, UnknownReference
from ..regions import has_aspect_of
from ..selection import Selection
from ..tokens import TokenGrid
from .levels import Maps

TOO_SMALL = "too small to measure, and drawn as 0"


@dataclass(frozen=True)
class MapsOfBoth:
    """Maps ``a`` and ``b``, both ``[n, h, w]`` in the unit that they had, and the label of each in its own run.

    ``left_out`` says of what there is a map in one run alone; ``grids`` what was done to maps of unlike grids.
    """

    a: Tensor
    b: Tensor
    labels: list[tuple[str, str]]
    left_out: tuple[str, ...] = ()
    grids: str = ""

    @property
    def difference(self) -> Tensor:
        """What B has more than A: ``[n, h, w]``."""
        return self.b - self.a


MapsOf = Callable[[Attribution, Selection], Maps]
"""What makes the maps of a run for a selection."""


def maps_of_both(
    maps_of: MapsOf, runs: tuple[Attribution, Attribution], selection: Selection, sums: bool = False
) -> MapsOfBoth:
    """The maps that ``maps_of`` makes of A and of B, for the same selection; the reference in B is the ``counterpart``.

    Maps of unlike grids are averaged onto the coarser one; of those whose ``sums`` count, which are those of attention
    in normalization 'paper' or on a reference, the sum stays. An effect that is too small for a map in one run alone is
    0 there. Raises InOneRun with what ``maps_of`` raises, and Incomparable where nothing can be paired, or the grids
    have another form.
    """
    a, b = runs
    other_number = counterpart(a, b, selection.reference)
    if other_number is None:
        raise Incomparable(f"{a.owner_names.get(selection.reference, 'what is compared')} is in A alone")
    selections = selection, dataclasses.replace(selection, reference=other_number)
    first, second = _both(maps_of, runs, selections)
    one, other = _by_key(first), _by_key(second)
    keys = [key for key in one if key in other]
    left_out = [f"{first.labels[one[key]]}: in A alone" for key in one if key not in other]
    left_out += [f"{second.labels[other[key]]}: in B alone" for key in other if key not in one]
    if not keys:
        raise Incomparable(f"the maps of A and those of B are of nothing that is the same ({'; '.join(left_out[:4])})")
    x, y, grids = on_one_grid(first.values[[one[k] for k in keys]], second.values[[other[k] for k in keys]], sums)
    labels = [(first.labels[one[key]], second.labels[other[key]]) for key in keys]
    return MapsOfBoth(x, y, labels, tuple(left_out), grids)


def counterpart(a: Attribution, b: Attribution, number: int) -> int | None:
    """The number in B of A's reference of this number; None where B has none for it.

    It is that of the same name, of several the one in the same place among these; or else that of the same number,
    where both have another name than all others, and come by the same mechanism: another picture in the same place.
    Raises InOneRun where A has no such reference.
    """
    if not a.references and number == 0:
        return None if b.references else 0
    try:
        a.check_reference(number)
    except UnknownReference as error:
        raise InOneRun("A", error) from error
    pairs: dict[int, int] = {}
    for name in {reference.name for reference in a.references}:
        of_a, of_b = ([n for n, x in enumerate(run.references) if x.name == name] for run in (a, b))
        pairs |= dict(zip(of_a, of_b, strict=False))
    if number in pairs:
        return pairs[number]
    free = number < len(b.references) and number not in pairs.values()
    return number if free and a.mechanism == b.mechanism else None


def took_same_steps(a: Attribution, b: Attribution) -> bool:
    """Whether both runs went through the same sigmas."""
    return a.steps == b.steps and torch.allclose(torch.tensor(a.sigmas), torch.tensor(b.sigmas))


def measured_in_both(a: Attribution, b: Attribution, owner: Owner, route: Route = "everything") -> list[int]:
    """The steps in which A's ``owner`` was taken away in both; none where the runs did not take the same steps."""
    if a.effects is None or b.effects is None or not took_same_steps(a, b):
        return []
    other = counterpart(a, b, owner) if isinstance(owner, int) else owner
    return [] if other is None else sorted({*a.effects.steps(owner, route)} & {*b.effects.steps(other, route)})


def _both(
    maps_of: MapsOf, runs: tuple[Attribution, Attribution], selections: tuple[Selection, Selection]
) -> tuple[Maps, Maps]:
    """The maps of both; where those of one alone are too small for a map, zeros in the form of the other's."""
    results: dict[str, Maps] = {}
    too_small: dict[str, EffectTooSmall] = {}
    for called, run, selection in zip("AB", runs, selections, strict=True):
        try:
            results[called] = maps_of(run, selection)
        except EffectTooSmall as error:
            too_small[called] = error
        except ValueError as error:
            raise InOneRun(called, error) from error
    if not results:
        raise InOneRun("A", too_small["A"])
    for called in too_small:
        (other,) = results.values()
        labels = [f"{label}, {TOO_SMALL}" for label in other.labels]
        results[called] = dataclasses.replace(other, values=other.values * 0, labels=labels, certainties=())
    return results["A"], results["B"]


def _by_key(maps: Maps) -> dict[object, int]:
    """The numbers of the maps by what they are of. Of several of the same, as two references of one name may be, the
    second is paired with the second."""
    numbers: dict[object, int] = {}
    counts: dict[object, int] = {}
    for number, key in enumerate(maps.keys):
        if key is not None:
            counts[key] = counts.get(key, 0) + 1
            numbers[key, counts[key]] = number
    return numbers


def on_one_grid(a: Tensor, b: Tensor, sums: bool = False) -> tuple[Tensor, Tensor, str]:
    """Maps ``[n, h, w]`` on the coarser of their grids, as means or as ``sums``; and a sentence where they had others.

    Raises Incomparable where the grids have another form.
    """
    (height, width), (other_height, other_width) = a.shape[-2:], b.shape[-2:]
    if a.shape[-2:] == b.shape[-2:]:
        return a, b, ""
    of_both = f"{width}x{height} in A, {other_width}x{other_height} in B"
    if not has_aspect_of(a, TokenGrid(other_height, other_width)):
        raise Incomparable(f"the maps have another form ({of_both}), so that no place of one is a place of the other")
    size = min(height, other_height), min(width, other_width)
    how = "sums" if sums else "means"
    note = f"maps of unlike grids ({of_both}) are compared as {how} on one of {size[1]}x{size[0]}"
    return _averaged(a, size, sums), _averaged(b, size, sums), note


def _averaged(values: Tensor, size: tuple[int, int], sums: bool) -> Tensor:
    """Means of maps ``[n, h, w]`` over the cells of a coarser grid, or sums: exact, also where cells are cut."""
    rows, columns = (_overlaps(fine, coarse) for fine, coarse in zip(values.shape[-2:], size, strict=True))
    if not sums:
        rows, columns = rows / rows.sum(1, keepdim=True), columns / columns.sum(1, keepdim=True)
    return (rows @ values.double() @ columns.T).to(values.dtype)


def _overlaps(fine: int, coarse: int) -> Tensor:
    """How much of each of the ``fine`` cells of a line is in each of the ``coarse`` ones: ``[coarse, fine]``."""
    cells, edges = (
        torch.arange(fine, dtype=torch.float64),
        torch.arange(coarse + 1, dtype=torch.float64) * fine / coarse,
    )
    low = torch.maximum(cells[None], edges[:-1, None])
    high = torch.minimum(cells[None] + 1, edges[1:, None])
    return (high - low).clamp(min=0)

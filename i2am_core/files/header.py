"""The header of a file: what an attribution is of, but for its tensors. Written, and read with all checks."""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from ..attribution import HEAD_DETAILS, Attribution, HeadDetail, Layer, Reference
from ..given import FATES, GivenReference
from ..tokens import TokenGrid
from . import effects
from .checks import (
    CELLS,
    DETAIL,
    boolean,
    check,
    count,
    grid,
    grid_or_none,
    mapping,
    member,
    number,
    sequence,
    text,
    worded,
)

SUFFIX = ".i2am.safetensors"
VERSION = 3
WITHOUT_EFFECTS = 2  # is written where there are none, and the file is what it was before there were any
KEY = "i2am"  # in the metadata
STEPS = 100_000  # more than any sampler takes
ITEMS = 65_536  # of a batch, times references
REFERENCES = 1024
RESIZED = 2**28  # cells of all maps of a level, where some are made larger than they are in the file

Place = tuple[int, int]
"""The numbers of a reference and of a layer."""


def header_text(a: Attribution) -> str:
    """The header as JSON."""
    header: dict[str, Any] = {
        "version": version_of(a),
        "references": [
            {"name": r.name, "tokens": r.tokens, "grid": _sides(r.grid), "key": r.key, "approximate": r.approximate}
            | ({"alone": True} if r.alone else {})
            for r in a.references
        ],
        "layers": [{"name": x.name, "grid": _sides(x.grid), "heads": x.heads} for x in a.layers],
        "entries": sorted(a.entries),
        "reference_grids": {f"{r}/{n}": _sides(entry.reference_grid) for (r, n), entry in a.entries.items()},
        "bins": [[b.start, b.stop] for b in a.bins],
        "sigmas": a.sigmas,
        "items": a.items,
        "heads": a.heads,
        "grid": _sides(a.grid),
        "mechanism": a.mechanism,
        "branch": a.branch,
        "captured_calls": a.captured_calls,
        "skipped": dict(a.skipped),
        "row_sums": dict(a.row_sums),
        "notes": a.notes,
    }
    if a.arithmetic:
        header["arithmetic"] = dict(a.arithmetic)
    if a.not_evaluated:
        header["not_evaluated"] = a.not_evaluated
    if a.not_looked_at:
        header["not_looked_at"] = a.not_looked_at
    if off := {f"{r}/{n}": entry.off for (r, n), entry in a.entries.items() if entry.off}:
        header["off"] = off
    if a.missed:
        header["missed"] = a.missed
    if a.guidance is not None:
        header["guidance"] = a.guidance
    if a.all_observed:
        header["all_observed"] = True
    if a.effects is not None:
        header["effects"] = effects.written(a.effects)
    if a.given:  # a file of a run that was given nothing is what it was before
        header["given"] = [dataclasses.asdict(given) for given in a.given]
    return json.dumps(header)


def version_of(a: Attribution) -> int:
    """The version of the file that an attribution becomes."""
    return WITHOUT_EFFECTS if a.effects is None else VERSION


def _sides(grid: TokenGrid | None) -> list[int] | None:
    """Height and width, and of a video the number of frames."""
    if grid is None:
        return None
    return [grid.height, grid.width] if grid.frames == 1 else [grid.height, grid.width, grid.frames]


@dataclass(frozen=True)
class Described:
    """What a header says: an attribution without its tensors, and of each of its entries the reference's grid.

    ``off`` are the steps of those entries in which the reference was off.
    """

    attribution: Attribution
    reference_grids: dict[Place, TokenGrid | None]
    off: dict[str, tuple[int, ...]]  # by what tensors call the entry

    def __iter__(self) -> Iterator[tuple[str, Place]]:
        """Of each entry how tensors name it, and its numbers."""
        return ((f"{r}/{n}", (r, n)) for r, n in self.reference_grids)

    def tokens(self, place: Place) -> int:
        """How many cells maps of an entry have on the reference."""
        own = self.reference_grids[place]
        return self.attribution.references[place[0]].tokens if own is None else own.cells


def described(header: dict[str, Any], version: int) -> Described:
    """Read a header of this version. Raises ValueError for what no attribution can be of.

    Nothing is made that is larger than the header itself.
    """
    notes = sequence(member(header, "notes", "it"), "notes")
    sigmas = sequence(member(header, "sigmas", "it"), "sigmas")
    check(2 <= len(sigmas) <= STEPS, f"sigmas is {worded(sigmas)}, where one more than steps is expected")
    a = Attribution(
        references=tuple(_reference(x) for x in sequence(member(header, "references", "it"), "references")),
        layers=tuple(_layer(x) for x in sequence(member(header, "layers", "it"), "layers")),
        entries={},
        bins=_bins(sequence(member(header, "bins", "it"), "bins"), len(sigmas) - 1),
        sigmas=tuple(number(sigma, "a sigma") for sigma in sigmas),
        items=count(member(header, "items", "it"), "items", most=ITEMS),
        heads=_heads(header, version),
        grid=grid(member(header, "grid", "it"), "grid"),
        mechanism=text(member(header, "mechanism", "it"), "mechanism"),
        branch=text(member(header, "branch", "it"), "branch"),
        captured_calls=count(member(header, "captured_calls", "it"), "captured_calls", least=0),
        skipped=_counts(member(header, "skipped", "it"), "skipped"),
        row_sums=_counts(header.get("row_sums", {}), "row_sums"),  # the first files had none
        arithmetic=_counts(header.get("arithmetic", {}), "arithmetic"),
        notes=tuple(text(note, "a note") for note in notes),
        given=_given(header),
        not_evaluated=_steps(header.get("not_evaluated", []), len(sigmas) - 1),
        not_looked_at=_steps(header.get("not_looked_at", []), len(sigmas) - 1),
        missed=tuple(text(x, "a reason in missed") for x in sequence(header.get("missed", []), "missed")),
        guidance=None if header.get("guidance") is None else number(header["guidance"], "guidance"),
        all_observed=boolean(header.get("all_observed", False), "all_observed"),
    )
    count(len(a.references), "its number of references", 0, REFERENCES)
    pictures = a.items * len(a.references)
    check(pictures <= ITEMS, f"it has {a.items} items of {len(a.references)} references, where {ITEMS} are the most")
    if version > WITHOUT_EFFECTS:
        a = dataclasses.replace(a, effects=effects.described(member(header, "effects", "it"), a))
    grids = _reference_grids(a, header, version)
    return Described(a, grids, _off(header, {f"{r}/{n}" for r, n in grids}, a.steps))


def _reference(value: Any) -> Reference:
    it = mapping(value, "a reference")
    reference = Reference(
        text(member(it, "name", "a reference"), "a reference's name"),
        count(member(it, "tokens", "a reference"), "a reference's tokens", most=CELLS),
        grid_or_none(member(it, "grid", "a reference"), "a reference's grid"),
        text(member(it, "key", "a reference"), "a reference's key"),
        boolean(it.get("approximate", False), "a reference's 'approximate'"),
        alone=boolean(it.get("alone", False), "a reference's 'alone'"),
    )
    fits = reference.grid is None or reference.grid.cells == reference.tokens
    check(fits, f"a reference does not fill its grid: {reference.tokens} tokens, {reference.grid}")
    return reference


def _given(header: dict[str, Any]) -> tuple[GivenReference, ...]:
    """What the run was given; the first files do not say it."""
    values = sequence(header.get("given", []), "given")
    count(len(values), "how many things it was given", 0, REFERENCES)
    return tuple(_given_reference(mapping(value, "a given reference")) for value in values)


def _given_reference(it: dict[str, Any]) -> GivenReference:
    what = "a given reference"
    fate = member(it, "fate", what)
    check(isinstance(fate, str) and fate in FATES, f"a fate is {worded(fate)}, expected is one of {', '.join(FATES)}")
    texts = {name: text(member(it, name, what), f"{what}'s {name}") for name in ("what", "how", "advice", "key")}
    certain = boolean(member(it, "certain", what), f"{what}'s 'certain'")
    return GivenReference(fate=next(known for known in FATES if known == fate), certain=certain, **texts)


def _layer(value: Any) -> Layer:
    it = mapping(value, "a layer")
    return Layer(
        text(member(it, "name", "a layer"), "a layer's name"),
        grid(member(it, "grid", "a layer"), "a layer's grid"),
        count(member(it, "heads", "a layer"), "a layer's heads", most=DETAIL),
    )


def _bins(values: list[Any], steps: int) -> tuple[range, ...]:
    """Time bins, which follow one another and hold all steps: each has one at least, so that they are no more."""
    bins, last = [], 0
    for value in values:
        low, high = (count(end, "an end of a time bin", least=0) for end in sequence(value, "a time bin", 2))
        check(low == last < high <= steps, f"its time bins do not hold its steps: {low} to {high} comes after {last}")
        bins.append(range(low, high))
        last = high
    check(last == steps, f"its time bins do not hold its steps: they end at {last}, where {steps} is expected")
    return tuple(bins)


def _steps(value: Any, steps: int) -> tuple[int, ...]:
    """Numbers of steps, ascending."""
    numbers = [count(n, "a step", 0, steps - 1) for n in sequence(value, "steps")]
    check(sorted(set(numbers)) == numbers, "its steps that were not evaluated, or in which it is off, do not ascend")
    return tuple(numbers)


def _off(header: dict[str, Any], entries: AbstractSet[str], steps: int) -> dict[str, tuple[int, ...]]:
    """Of entries the steps in which their reference was off; the first files do not say it."""
    off = mapping(header.get("off", {}), "off")
    check(off.keys() <= entries, f"off has {worded(min(off.keys() - entries, default=''))}, which is no entry")
    return {name: _steps(numbers, steps) for name, numbers in off.items()}


def _heads(header: dict[str, Any], version: int) -> HeadDetail:
    """In what detail heads are kept; version 1 says only whether they are kept in each step."""
    if version == 1:
        return "in each step" if boolean(member(header, "heads_kept", "it"), "heads_kept") else "merged"
    heads = member(header, "heads", "it")
    check(isinstance(heads, str) and heads in HEAD_DETAILS, f"heads is {worded(heads)}, which is no detail of heads")
    return next(detail for detail in HEAD_DETAILS if detail == heads)


def _counts(value: Any, what: str) -> dict[str, int]:
    it = mapping(value, what)
    return {text(reason, f"a reason in {what}"): count(n, f"a count in {what}") for reason, n in it.items()}


def _reference_grids(a: Attribution, header: dict[str, Any], version: int) -> dict[Place, TokenGrid | None]:
    """Of each entry the grid that its reference has in its layer; the first files have one grid for all layers."""
    entries = sequence(member(header, "entries", "it"), "entries")
    check(len(entries) > 0 or (a.effects is not None and len(a.effects.maps) > 0), "it has no maps at all")
    if version == 1:
        header = {"reference_grids": {}} | header
    grids = mapping(member(header, "reference_grids", "it"), "reference_grids")
    result: dict[Place, TokenGrid | None] = {}
    for entry in entries:
        numbers = sequence(entry, "an entry", 2)
        r = count(numbers[0], "an entry's reference", 0, len(a.references) - 1)
        n = count(numbers[1], "an entry's layer", 0, len(a.layers) - 1)
        check((r, n) not in result, f"entry {r}/{n} is there twice")
        own = grid_or_none(grids.get(f"{r}/{n}"), "a reference's grid in a layer")
        result[r, n] = own or a.references[r].grid
    others = grids.keys() - {f"{r}/{n}" for r, n in result}
    check(not others, f"reference_grids has {worded(min(others, default=''))}, which is no entry")
    _check_grids(a, result)
    return result


def _check_grids(a: Attribution, grids: dict[Place, TokenGrid | None]) -> None:
    """Maps are resized to the largest grid among their kind, which must not be out of all proportion to the others."""
    kinds: defaultdict[int | str, list[tuple[TokenGrid, int]]] = defaultdict(list)
    for (r, n), own in grids.items():
        kinds["of layers"].append((a.layers[n].grid, a.layers[n].heads))
        if own is not None:
            kinds[r].append((own, a.layers[n].heads))
    for of_kind in kinds.values():
        planes = {own.plane for own, _ in of_kind}
        least, most = min(planes), max(planes)
        check(most <= DETAIL * least, f"its grids have {least} to {most} cells, which no model has side by side")
        heads = {count for _, count in of_kind}
        in_each = len(a.bins) * max(heads) if a.heads == "in each step" else len(a.bins)
        maps = max(len(of_kind), sum(heads), in_each)  # at once, of levels 'layer', 'head' and 'time'
        frames = max(own.frames for own, _ in of_kind)
        fits = least == most or maps * frames * most <= RESIZED
        check(fits, f"{maps} of its maps would be resized from {least} to {most} cells, which is too much")

"""The runs of the nodes that a picture comes from, and of a list those of this picture, as far as that is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .kept_run import FORGOTTEN, Run
from .lists import Calls
from .origin import Origin


@dataclass(frozen=True)
class RunsOf:
    """The runs of a picture, in order.

    ``mixed``: it is one of a list, and those of its other pictures are among them: which run made which, is not known.
    """

    runs: list[Run]
    mixed: bool = False


def runs_of_picture(runs: Sequence[Run], calls: Mapping[str, Calls], item: int) -> RunsOf:
    """Of ``runs``, in order, those of the picture of number ``item``.

    ``calls`` are by what a node was given; of one that is not among them all count.
    """
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.node_in_queue, []).append(run)
    chosen, mixed = [], False
    for group in groups.values():
        origin = group[0].origin
        whole = group if origin is None else _with_gone(group, origin)
        own = whole if origin is None else _of_calls(whole, calls.get(origin.node.given, "all"), item)
        mixed |= own is None
        chosen += whole if own is None else own
    return RunsOf(chosen, mixed)


def _with_gone(group: Sequence[Run], origin: Origin) -> list[Run]:
    """The runs of a node in their places, with those between them of which nothing is known any more."""
    by_position = {run.position: run for run in group}
    gone = Run(replace(origin, item=None), why=FORGOTTEN)
    return [by_position.get(n, gone) for n in range(group[-1].position + 1)]


def _of_calls(runs: list[Run], which: Calls, item: int) -> list[Run] | None:
    """Those of the calls that made the picture; None where it is not known which these are.

    A node was called more often than there are runs where its last calls sampled nothing: then a picture of a higher
    number may be of one of these, or of the last call of all, which stands for those that a list lacks.
    """
    items = [None if run.origin is None else run.origin.item for run in runs]
    known = [n for n in items if n is not None]
    if which == "all" or (which == "the only one" and not any(known)):
        return runs
    if which == "the only one, of a list" and len(runs) == 1:
        return runs
    if which == "of this number" and len(known) == len(items) and item <= max(known, default=-1):
        return [run for run, n in zip(runs, items, strict=True) if n == item]
    return None

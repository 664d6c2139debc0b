"""What a person should know of the sums of a run: how exact they are, and what is missing."""

from collections.abc import Sequence

from .run_sums import RunSums
from .sums import PairSums

STEPS_REVISITED = (
    "the sampler came back to steps that it had left: in {}, these weigh a little more than in the other maps"
)
HALF = (
    "{} are in half precision, with a scale for each map: a value may be off by {:.2g} %, or by more if it is below "
    "2e-9 of the largest of its map"
)


def notes_of(sums: Sequence[RunSums], pairs: Sequence[PairSums], without_pairs: Sequence[str]) -> list[str]:
    """Of sums by step, and perhaps by head; of pair maps; and the names of layers whose pair maps did not fit."""
    notes = []
    _, *by_head = sums
    returned = ["pair maps"] if any(one.revisited for one in pairs) else []
    returned += ["maps of heads"] if any(one.returned for one in by_head) else []
    if returned:
        notes.append(STEPS_REVISITED.format(" and ".join(returned)))
    names = ["maps of steps and layers", "maps of heads"] if by_head else ["maps"]
    for one, name in zip(sums, names, strict=True):
        if one.error:
            notes.append(HALF.format(name, 100 * one.error))
    if without_pairs:
        notes.append(f"pair maps of {', '.join(without_pairs)} did not fit the memory budget")
    return notes

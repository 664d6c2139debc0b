"""The runs that made a picture, for a person: a line each, and what is not known of where they lie in it."""

from collections.abc import Sequence

from torch import Tensor

from .comfy.kept_run import Run
from .comfy.origin import Upstream

MOST_LISTED = 40  # runs in a sentence
UNKNOWN = "which of the runs made this picture is not known here: these are all that I2AM Capture has kept"
EARLIER = ", in an earlier queue"
SMALLER = (
    "on a smaller latent than others: of which part of the picture it is, or whether it is of all of it before it was "
    "made larger, is not known"
)
ALIKE = (
    "runs on latents of one size may be of the whole picture, one after another, or of parts of it: which, is not "
    "known, nor where a part lies"
)
OTHER_SHAPE = "its latent has not the shape of the picture: it is of a part of it, or the picture was cut afterwards"


MIXED = (
    "this picture is one of a list, and which of these runs made which picture of the list is not known here: a node "
    "between takes or gives lists, or sampled nothing for some of them"
)


def listed(runs: Sequence[Run], picture: Upstream | None, mixed: bool = False) -> list[str]:
    """All runs of the picture, a line each; ``mixed`` with those of other pictures of a list."""
    known = picture is not None and any(run.origin is not None for run in runs)
    queue = "" if picture is None else picture.queue
    earlier = [run.origin is not None and picture is not None and run.origin.queue != queue for run in runs]
    lines = [f"{line}{EARLIER * before}" for line, before in zip(numbered(runs), earlier, strict=True)]
    what = "pictures of this list" if mixed else "this picture"
    first = f"{len(runs)} run(s) made {what}:" if known else f"{UNKNOWN}:"
    return [first, *(f"  {line}" for line in lines), *([MIXED] if mixed else [])]


def numbered(runs: Sequence[Run]) -> list[str]:
    over_lists = {run.origin.node for run in runs if run.origin is not None and run.origin.item}
    several = [run.origin is not None and run.origin.node in over_lists for run in runs]
    return [f"run {n}: {worded(run, of_list)}" for n, (run, of_list) in enumerate(zip(runs, several, strict=True))]


def worded(run: Run, several: bool = False) -> str:
    """A run for a person; where there are runs for ``several`` things of a list, for which."""
    item = run.origin.item if several and run.origin is not None else None
    of_list = "" if item is None else f", for number {item} of a list"
    by = "" if run.origin is None else f", by {run.origin.node}"
    return f"{run.about or 'a run'}{by}{of_list}" + (f" (its maps {run.why})" if run.why else "")


def gone(runs: Sequence[Run]) -> list[str]:
    return [f"run {n}: its maps {run.why}" for n, run in enumerate(runs)]


def in_short(lines: Sequence[str]) -> str:
    return "; ".join(lines[:MOST_LISTED]) + ("; ..." if len(lines) > MOST_LISTED else "") if lines else "none"


def places(runs: Sequence[Run], image: Tensor) -> list[str]:
    """What is not known of where runs lie in the picture: a node that cuts it does not say so to the sampler."""
    sizes = {n: run.grid.plane for n, run in enumerate(runs) if run.grid is not None}
    largest = max(sizes.values(), default=0)
    lines = []
    for n, size in sizes.items():
        if size < largest:
            lines.append(f"run {n} is {SMALLER}")
        elif not runs[n].has_shape_of(image):
            lines.append(f"run {n}: {OTHER_SHAPE}")
    return [*lines, *([ALIKE] if len(sizes) > len(set(sizes.values())) else [])]

"""In what else two runs differ, a line each: of what an attribution records."""

from collections.abc import Callable, Iterator

from ...attribution import STEERED, Attribution

NONE = "none that is known"


def unlike_settings(a: Attribution, b: Attribution) -> Iterator[str]:
    """Of each setting that is another one in B, what it is in both; how each was steered, in full."""
    for name, read in SETTINGS.items():
        in_a, in_b = read(a), read(b)
        if in_a != in_b:
            yield f"{name}: {in_a or NONE} in A, {in_b or NONE} in B"
    for run, other, called in ((a, b, "A"), (b, a, "B")):
        yield from (f"{called} alone: {note}" for note in _steered(run) if note not in _steered(other))


def _steered(run: Attribution) -> list[str]:
    return [note for note in run.notes if note.startswith(STEERED)]


def _noise(run: Attribution) -> str:
    return f"from {run.sigmas[0]:.3g} to {run.sigmas[-1]:.3g}"


def _mask(run: Attribution) -> str:
    mask = run.mask_on_latent()
    return "" if mask is None else f"{mask.float().mean():.0%} of the picture"


SETTINGS: dict[str, Callable[[Attribution], str]] = {
    "references": lambda run: ", ".join(f"'{x.name}' of {x.tokens} tokens" for x in run.references),
    "mechanism": lambda run: run.mechanism,
    "branch": lambda run: run.branch,
    "guidance (cfg)": lambda run: "" if run.guidance is None else f"{run.guidance:.3g}",
    "steps": lambda run: str(run.steps),
    "noise (sigma)": _noise,
    "latent grid": lambda run: str(run.grid),
    "inpainting mask": _mask,
    "pictures": lambda run: str(run.items),
}

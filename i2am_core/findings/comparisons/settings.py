"""In what else two runs differ, a line each: of what an attribution records."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ...attribution import STEERED, Attribution
from ..facts import steps_text

NONE = "not known"
WITHIN = "the same in these words, and other values"


def unlike_settings(a: Attribution, b: Attribution) -> Iterator[str]:
    """Of each setting that is another one in B, what it is in both; how each was steered, in full."""
    for name, (read, words) in SETTINGS.items():
        in_a, in_b = read(a), read(b)
        if not _are_same(in_a, in_b):
            said, other = words(in_a) or NONE, words(in_b) or NONE
            yield f"{name}: {said} in A, {other} in B" if said != other else f"{name}: {said}, {WITHIN}"
    for run, other_run, called in ((a, b, "A"), (b, a, "B")):
        yield from (f"{called} alone: {note}" for note in _steered(run) if note not in _steered(other_run))


def _are_same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and torch.allclose(a.float(), b.float())
    return type(a) is type(b) and a == b


def _steered(run: Attribution) -> list[str]:
    return [note for note in run.notes if note.startswith(STEERED)]


def _range_of(sigmas: torch.Tensor) -> str:
    return f"from {sigmas[0]:.3g} to {sigmas[-1]:.3g}"


def _area_of(mask: torch.Tensor | None) -> str:
    return "" if mask is None else f"{(mask > 0).float().mean():.0%} of the picture"


def _references(run: Attribution) -> str:
    return ", ".join(f"'{x.name}' of {x.tokens} tokens" for x in run.references)


def _cfg(guidance: float | None) -> str:
    return "" if guidance is None else f"{guidance:.3g}"


def _measured(run: Attribution) -> list[int]:
    return [] if run.effects is None else sorted({removal.step for removal in run.effects.maps})


SETTINGS: dict[str, tuple[Callable[[Attribution], Any], Callable[[Any], str]]] = {
    # what is compared, and how it is worded
    "references": (_references, str),
    "mechanism": (lambda run: run.mechanism, str),
    "branch": (lambda run: run.branch, str),
    "guidance (cfg), before which effects are": (lambda run: run.guidance, _cfg),
    "steps": (lambda run: run.steps, str),
    "noise (sigma)": (lambda run: torch.tensor(run.sigmas), _range_of),
    "steps in which effects were measured": (_measured, steps_text),
    "latent grid": (lambda run: run.grid, str),
    "inpainting mask": (lambda run: run.denoise_mask, _area_of),
    "layers": (lambda run: tuple(layer.name for layer in run.layers), lambda names: f"{len(names)} of them"),
    "pictures": (lambda run: run.items, str),
}

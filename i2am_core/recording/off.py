"""Which references were observed to be off: an adapter outside its steps, of weight 0, or left out in a layer."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..attention.marginals import Marginals
from ..attribution import Layer
from ..selection import numbers_text

Where = tuple[int, str]
"""A step, and the name of a layer."""

ZERO = "where its maps are 0"


class OffAccount:
    """Of each reference by its number: where it was read, and where it was observed to be off, with the reason.

    A place where both happened, as in a step of several evaluations, counts as one in which it was read.
    """

    def __init__(self) -> None:
        self._off: defaultdict[int, dict[Where, str]] = defaultdict(dict)
        self._read: defaultdict[int, set[Where]] = defaultdict(set)

    def read(self, reference: int, step: int, layer: str) -> None:
        self._read[reference].add((step, layer))

    def off(self, reference: int, step: int, layer: str, reason: str) -> None:
        self._off[reference].setdefault((step, layer), reason)

    def was_read(self, reference: int, retracted: Iterable[str]) -> bool:
        """Whether it was read in any layer but these."""
        gone = set(retracted)
        return any(layer not in gone for _, layer in self._read[reference])

    def steps(self, reference: int, layer: str) -> tuple[int, ...]:
        """The steps in which it was off in a layer, in order."""
        return tuple(
            sorted(step for step, name in self._off[reference].keys() - self._read[reference] if name == layer)
        )

    def notes(self, names: Sequence[str], steps: int, retracted: Iterable[str]) -> list[str]:
        """Sentences for a person about a run of so many ``steps``; ``names`` are those of references, by number."""
        gone = set(retracted)
        about: dict[str, list[str]] = {}  # what is said, and the references that it is said of
        for reference in sorted(self._off):
            for text in self._of(reference, steps, gone):
                about.setdefault(text, []).append(f"'{names[reference]}'")
        return [f"{', '.join(of)} {'is' if len(of) == 1 else 'are'} off {text}" for text, of in about.items()]

    def _of(self, reference: int, steps: int, gone: set[str]) -> list[str]:
        read = {where for where in self._read[reference] if where[1] not in gone}
        off = {where: why for where, why in self._off[reference].items() if where not in read and where[1] not in gone}
        steps_read, texts = {step for step, _ in read}, []
        if whole := sorted({step for step, _ in off} - steps_read):
            reasons = dict.fromkeys(why for (step, _), why in off.items() if step not in steps_read)
            many = "step" if len(whole) == 1 else "steps"
            where = "in all steps" if len(whole) == steps else f"in {many} {numbers_text(whole)} of {steps}"
            texts.append(f"{where}, {ZERO}: {'; '.join(reasons)}")
        layers: dict[str, dict[str, None]] = {}  # by reason
        for (step, layer), why in off.items():
            if step in steps_read:
                layers.setdefault(why, {})[layer] = None
        texts += [f"in {', '.join(names)}, {ZERO}: {why}" for why, names in layers.items()]
        return texts


def zero_maps(
    layer: Layer, items: int, tokens: int, scoped: bool, pair_rows: Tensor | None, device: torch.device
) -> Marginals:
    """The maps of a reference of so many ``tokens`` that gets nothing, of each of the ``items``: see ``Marginals``."""

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(items, *shape, device=device)

    on_picture, on_reference = (layer.heads, layer.grid.cells), (layer.heads, tokens)
    pairs = None if pair_rows is None else (len(pair_rows), tokens)
    return Marginals(
        zeros(*on_picture),
        zeros(*on_picture),
        zeros(*on_reference),
        zeros(*on_reference),
        zeros(*on_reference) if scoped else None,
        zeros(*on_reference) if scoped else None,
        None if pairs is None else zeros(*pairs),
        None if pairs is None else zeros(*pairs),
    )

"""Which references and layers of two runs are the same, and the numbers that they have where the runs are joined."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attribution import Attribution, Layer, Reference


@dataclass(frozen=True)
class Numbers:
    """Of the references and the layers of the second run the numbers in both runs together: the first's stay."""

    references: dict[int, int]
    layers: dict[int, int]
    joined_references: tuple[Reference, ...]
    joined_layers: tuple[Layer, ...]

    @classmethod
    def of(cls, first: Attribution, second: Attribution) -> "Numbers":
        layers, joined_layers = _layers(first, second)
        references: dict[int, int] = {}
        joined_references = list(first.references)
        for number, reference in enumerate(second.references):
            same = [
                n
                for n in range(len(first.references))
                if n not in references.values() and _is_same(first, n, second, number, layers)
            ]
            if same:
                references[number] = same[0]
                joined_references[same[0]] = _larger(joined_references[same[0]], reference)
            else:
                references[number] = len(joined_references)
                joined_references.append(reference)
        return cls(references, layers, tuple(joined_references), joined_layers)

    def pictures(self, first: Attribution, second: Attribution) -> dict[str, Tensor]:
        """The pictures of both; where both have one, that of the second, which came later."""
        of_second = {}
        for name, picture in second.pictures.items():
            subject, _, number = name.partition(" ")
            new = self.references[int(number)] if subject == "reference" else number
            of_second[f"{subject} {new}"] = picture
        return {**first.pictures, **of_second}


def _layers(first: Attribution, second: Attribution) -> tuple[dict[int, int], tuple[Layer, ...]]:
    """Layers are the same if they are equal. Another one of the same name gets a name of its own."""
    joined, numbers, names = list(first.layers), {}, {layer.name for layer in first.layers}
    for number, layer in enumerate(second.layers):
        if layer in first.layers:
            numbers[number] = first.layers.index(layer)
        else:
            numbers[number] = len(joined)
            other = dataclasses.replace(layer, name=f"{layer.name} (second run)")
            joined.append(other if layer.name in names else layer)
    return numbers, tuple(joined)


def _is_same(first: Attribution, n: int, second: Attribution, m: int, layers: dict[int, int]) -> bool:
    """Whether two references are one: of one name and key, or of one name and picture, and alike in each layer."""
    one, other = first.references[n], second.references[m]
    pictures = first.pictures.get(f"reference {n}"), second.pictures.get(f"reference {m}")
    pictured = all(picture is not None for picture in pictures)
    if pictured:
        same = one.name == other.name and torch.equal(*pictures)  # type: ignore[arg-type]
    else:
        same = (one.name, one.key) == (other.name, other.key)
    if not same or (one.grid is None) != (other.grid is None) or (one.grid is None and one.tokens != other.tokens):
        return False
    for reference, layer in second.entries:
        entry = first.entries.get((n, layers[layer]))
        if reference == m and entry is not None:
            grid = second.entries[m, layer].reference_grid or other.grid
            if (entry.reference_grid or one.grid) != grid:
                return False
    return True


def _larger(one: Reference, other: Reference) -> Reference:
    larger = max(one, other, key=lambda reference: reference.tokens)
    return dataclasses.replace(larger, key=one.key, approximate=one.approximate or other.approximate)

"""The parts of the study, in the order of the page: each module has ``run``, which takes a Lab and gives a Section."""

from __future__ import annotations

from collections.abc import Callable

from ..lab import Lab
from ..section import Section
from . import correspondence, counterfactuals, deletion, imacs, localisation, two_references

PARTS: dict[str, Callable[[Lab], Section]] = {
    "counterfactuals": counterfactuals.run,
    "two_references": two_references.run,
    "deletion": deletion.run,
    "correspondence": correspondence.run,
    "localisation": localisation.run,
    "imacs": imacs.run,
}

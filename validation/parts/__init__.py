"""The parts of the study, in the order of the page: each module has ``run``, which takes a Lab and gives a Section."""

from __future__ import annotations

from collections.abc import Callable

from ..lab import Lab
from ..section import Section
from . import (
    correspondence,
    counterfactuals,
    definitions,
    deletion,
    identifiability,
    imacs,
    knockout,
    localisation,
    randomization,
    two_references,
)

PARTS: dict[str, Callable[[Lab], Section]] = {
    "definitions": definitions.run,
    "counterfactuals": counterfactuals.run,
    "two_references": two_references.run,
    "deletion": deletion.run,
    "knockout": knockout.run,
    "identifiability": identifiability.run,
    "randomization": randomization.run,
    "correspondence": correspondence.run,
    "localisation": localisation.run,
    "imacs": imacs.run,
}

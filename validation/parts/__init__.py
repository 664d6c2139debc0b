"""The parts of the study, in the order of the page: each module has ``run``, which takes a Lab and gives a Section."""

from __future__ import annotations

from collections.abc import Callable

from ..lab import Lab
from ..section import Section
from . import definitions, identifiability, imacs, knockout, localisation, randomization

PARTS: dict[str, Callable[[Lab], Section]] = {
    "definitions": definitions.run,
    "randomization": randomization.run,
    "identifiability": identifiability.run,
    "knockout": knockout.run,
    "localisation": localisation.run,
    "imacs": imacs.run,
}

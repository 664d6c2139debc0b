"""What I2AM Effect takes away: references, parts of them, the text."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...i2am_core.attribution import Reference
from ...i2am_core.effect import Cut, Owner, Removal, Route, owner_names, region_grid
from ...i2am_core.recording.effects import EffectRecorder, RegionRemoval
from ...i2am_core.recording.recorder import Recorder
from .measured_steps import MeasuredSteps
from .unmeasured import IN_WINDOWS, NO_BUDGET, NO_PLACES

MOST_EACH_STEP = 4  # references; of more, each is taken away in the first of the measured steps alone


@dataclass(frozen=True)
class Settings:
    """What is set on I2AM Effect."""

    probe_steps: int = 3
    regions: int = 0  # on a side; 0 is none
    cuts: tuple[Cut, ...] = ("taken away",)
    routes: tuple[Route, ...] = ("everything",)
    text: bool = False  # whether the text is an owner, too
    without: list[Any] | None = None  # a conditioning, as nodes hand it on


class Removals:
    """What is taken away in a run, of the references that its ``recorder`` has located so far.

    Why a region is not measured is noted in ``effects``. Which owners the model read in a measured step, and which it
    did not read in one, is noted in ``read`` and ``unread`` by who takes them away.
    """

    def __init__(self, settings: Settings, recorder: Recorder, effects: EffectRecorder) -> None:
        self._settings, self._recorder, self._effects = settings, recorder, effects
        self.read: set[Owner] = set()
        self.unread: set[Owner] = set()
        self._with_regions: set[int] = set()  # references whose regions had their turn

    def of_step(self, steps: MeasuredSteps, in_windows: bool) -> Iterator[tuple[str, Removal | RegionRemoval]]:
        """What is taken away in the present step, each with its name for a person.

        Regions are of the first one that reads their reference, or of the last: where nothing reads it, no region of it
        changes anything.
        """
        step, references, names = steps.present, self._references(), self._names()
        all_of_them = steps.is_first or len(references) <= MOST_EACH_STEP
        owners: list[Owner] = [number for number in references if all_of_them or number not in self.read]
        owners += ["all references"] if len(references) > 1 else []
        owners += ["text"] if self._settings.text else []
        for owner in owners:
            for route in self._settings.routes:
                yield names[owner], Removal(step, owner, route)
        for number, reference in references.items() if self._settings.regions else ():
            has_turn = number in self.read or steps.is_last
            if has_turn and number not in self._with_regions:
                self._with_regions.add(number)
                yield from self._regions(step, number, reference, f"regions of {names[number]}", in_windows)

    def _regions(
        self, step: int, number: int, reference: Reference, name: str, in_windows: bool
    ) -> Iterator[tuple[str, RegionRemoval]]:
        grid = region_grid(reference.grid, self._settings.regions) if reference.grid is not None else None
        if grid is None:
            self._effects.why_not(name, NO_PLACES)
        elif in_windows:
            self._effects.why_not(name, IN_WINDOWS)
        elif not self._effects.regions_fit(len(self._settings.cuts) * grid.cells):
            self._effects.why_not(name, NO_BUDGET)
        else:
            route = self._settings.routes[0]
            for cut in self._settings.cuts:
                for region in range(grid.cells):
                    yield name, RegionRemoval(step, route, number, cut, grid, region)

    def _references(self) -> dict[int, Reference]:
        """By number, without class tokens, which are taken away with their image."""
        known = {number: self._recorder.references[number] for number in self._recorder.counted}
        images = {x.key for x in known.values() if x.grid is not None and x.key}
        return {number: x for number, x in known.items() if x.grid is not None or x.key not in images}

    def _names(self) -> dict[Owner, str]:
        """What owners are called: references as a person counts them."""
        counted = self._recorder.counted
        names = owner_names(self._recorder.references[number].name for number in counted)
        by_number: dict[Owner, str] = {number: names[n] for n, number in enumerate(counted)}
        return names | by_number

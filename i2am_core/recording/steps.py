"""What became of each step of a run: the model computed it, a node answered it from memory, or it was not asked."""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal

from ..printing import listed
from ..selection import numbers_text

How = Literal["computed", "from memory", "not active", "without the branch", "not looked at"]
"""What an evaluation was: blocks of the model ran; none did; no conditioning of the branch is for this step; it was of
another branch alone; it was left out, as a person wanted it."""

FROM_MEMORY = "a node answered from memory"
NO_EVALUATION = "it may be that {}, or that the sampler leaves them out"
NOT_ACTIVE = "no conditioning of the branch is active then (its start and end leave them out)"
OTHER_BRANCH = "the model was evaluated without the conditioning of this branch"
PART = "it may be that {}, or that a node leaves blocks out"
LEFT_OUT = (
    "{} of {} steps ({}) were not looked at, as it was set: they have no maps. A mean over steps is one over the others"
)
MOST_NAMES = 4  # of layers that are named


class StepAccount:
    """The account of a run's steps, whose ``sigmas [steps + 1]`` are the sampler's.

    ``caches`` are the names of those that are on the model. Where the model was called, and no block ran, one of them
    answered. Elsewhere it is one cause of several.
    """

    def __init__(self, sigmas: Sequence[float], caches: Collection[str] = ()) -> None:
        self._sigmas = sigmas
        self._cache = f"a cache answered ({', '.join(caches)})" if caches else ""
        self._seen: defaultdict[int, set[How]] = defaultdict(set)
        self._layers: defaultdict[str, set[int]] = defaultdict(set)  # the steps in which each ran, by name

    def add(self, step: int, how: How, layers: AbstractSet[str] = frozenset()) -> None:
        """An evaluation of a step, and the ``layers`` whose blocks ran in it."""
        self._seen[step].add(how)
        for layer in layers:
            self._layers[layer].add(step)

    def ran(self, step: int, layer: str) -> bool:
        """Whether a layer's block ran in a step."""
        return step in self._layers[layer]

    @property
    def computed(self) -> list[int]:
        """The steps in which blocks of the model ran for the watched branch."""
        return sorted(step for step, seen in self._seen.items() if "computed" in seen)

    @property
    def not_evaluated(self) -> tuple[int, ...]:
        """The steps in which they did not. None where no block was seen in any step: then nothing is known of it."""
        if not self.computed:
            return ()
        of_length = (
            n for n, (start, end) in enumerate(zip(self._sigmas, self._sigmas[1:], strict=False)) if start != end
        )
        return tuple(step for step in of_length if not {"computed", "not looked at"} & self._seen[step])

    @property
    def not_looked_at(self) -> tuple[int, ...]:
        """The steps that were left out."""
        return tuple(sorted(step for step, seen in self._seen.items() if "not looked at" in seen))

    @property
    def notes(self) -> list[str]:
        """Sentences for a person."""
        steps, total = self.not_evaluated, len(self._sigmas) - 1
        reasons: defaultdict[str, list[int]] = defaultdict(list)
        for step in steps:
            reasons[self._reason(step)].append(step)
        notes = [
            f"in {len(numbers)} of {total} steps ({numbers_text(numbers)}) the model was not evaluated for these maps: "
            f"{reason}. A mean over steps is one over the others"
            for reason, numbers in reasons.items()
        ]
        if left_out := self.not_looked_at:
            notes.append(LEFT_OUT.format(len(left_out), total, numbers_text(left_out)))
        return notes + self._notes_on_layers()

    def _reason(self, step: int) -> str:
        seen = self._seen[step]
        if "from memory" in seen:
            return self._cache or FROM_MEMORY
        if "not active" in seen:
            return NOT_ACTIVE
        if "without the branch" in seen:
            return OTHER_BRANCH
        return NO_EVALUATION.format(self._perhaps)

    @property
    def _perhaps(self) -> str:
        """Who may have answered where that was not observed."""
        return f"{self._cache}, that another node answered from memory" if self._cache else FROM_MEMORY

    def _notes_on_layers(self) -> list[str]:
        """On layers that did not run in each of the computed steps."""
        every, total = set(self.computed), len(self._sigmas) - 1
        by_steps: defaultdict[tuple[int, ...], list[str]] = defaultdict(list)
        for layer, ran in self._layers.items():
            if layer and every - ran:
                by_steps[tuple(sorted(ran))].append(layer)
        notes = []
        for some, unsorted in by_steps.items():
            layers = sorted(unsorted, key=_natural)
            notes.append(
                f"{listed(layers, MOST_NAMES)} ran in {len(some)} of {total} steps alone ({numbers_text(some)}): "
                f"{PART.format(self._perhaps)}. Their maps are means over these"
            )
        return notes


def _natural(name: str) -> list[tuple[int, str]]:
    """By which names of layers come in the order of their numbers."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]

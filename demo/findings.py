"""What findings say of runs whose faults are known: held-out scenes of a demo model, with faults made on purpose.

    scripts/demo --findings

Prints Markdown: how often each fault is found, and how often a healthy run is said to have one; then the numbers that
this was judged by, from the least to the most of all scenes. Thresholds were chosen by the first half of the scenes,
so that the figures of the second half are those to believe.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..i2am_core import Examined, Finding, examine
from .evaluate import SCENES
from .faults import Fault, Runs
from .steer import table
from .subject import of_weights
from .weights import WEIGHTS

STEPS = 10
Results = Mapping[str, Sequence[Examined]]
"""Of each trial what was found in all scenes, in the order of the study."""
HEADS = ["run", "findings that are right", "first half of the scenes", "second half", "another fault (of all)"]
NUMBERS: dict[str, Callable[[Finding], float | None]] = {
    "strength": lambda x: float(x.values["strength"]) if x.rule == "strength" else None,
    "form": lambda x: float(x.values["form"]) if x.rule == "form" else None,
    "the weaker of two, by the stronger": lambda x: (
        float(x.values["strength"]) / float(x.values["most"]) if x.rule == "rivals" else None
    ),
}
SCENE = " (of the scene)"


@dataclass(frozen=True)
class Judge:
    """What is right of findings where references before the ``object`` are there for something else: the scene."""

    object: int

    def is_of_scene(self, finding: Finding) -> bool:
        return finding.evidence.owner in range(self.object)

    def is_right(self, result: Examined, fault: Fault) -> bool:
        """Whether one of the findings that must be made was made; of a healthy run, whether no fault was."""
        if not fault.finds:
            return not self.faults(result)
        return any(finding.key in fault.finds for finding in result.findings if not self.is_of_scene(finding))

    def faults(self, result: Examined) -> set[str]:
        """The keys of what is said to be wrong."""
        return {x.key + SCENE * self.is_of_scene(x) for x in result.findings if x.weight == "fault"}

    def rows(self, trials: Mapping[str, Fault], results: Results) -> Iterator[list[str]]:
        """One for each trial."""
        for name, fault in trials.items():
            halves = results[name][: len(results[name]) // 2], results[name][len(results[name]) // 2 :]
            others = Counter(key for result in results[name] for key in self.faults(result) if key not in fault.finds)
            yield [
                name,
                ", ".join(fault.finds) or "no fault",
                *(f"{sum(self.is_right(result, fault) for result in half)} of {len(half)}" for half in halves),
                ", ".join(f"{key} ({count})" for key, count in others.most_common()),
            ]

    def numbers(self, trials: Mapping[str, Fault], results: Results) -> Iterator[list[str]]:
        """Of each trial in how many scenes each right finding was made; the least, most and mean of each number.

        Strength and form are the object's; how two compare is whichever of them is the weaker.
        """
        for name, fault in trials.items():
            every = [finding for result in results[name] for finding in result.findings]
            findings = [x for x in every if x.rule == "rivals" or not self.is_of_scene(x)]
            own = ({x.key for x in result.findings if not self.is_of_scene(x)} for result in results[name])
            keys = Counter(key for of in own for key in of)
            of_each = ([x for x in map(number, findings) if x is not None] for number in NUMBERS.values())
            ranges = [_range(values) for values in of_each]
            yield [name, ", ".join(f"{key} ({keys[key]})" for key in fault.finds), *ranges]


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}, mean {sum(values) / len(values):.3f}" if values else ""


def examined(runs: Runs, fault: Fault) -> list[Examined]:
    """All scenes of a trial, in the order of the study."""
    return [
        examine(attribution, item, **runs.marked(fault, int(scene)))
        for part, attribution in runs.of(fault)
        for item, scene in enumerate(part)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--cache", type=Path, help="a folder from which an interrupted run goes on")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(a.scenes, a.steps, 1, a.cache or Path(folder), of_weights(a.weights))
        results = {name: examined(runs, fault) for name, fault in runs.trials.items()}
        judge = Judge(runs.study.subject.object)
    given = list(judge.numbers(runs.trials, results))
    tables = table(HEADS, list(judge.rows(runs.trials, results))), table(["run", "made", *NUMBERS], given)
    sys.stdout.write("\n\n".join(tables) + "\n")


if __name__ == "__main__":
    main()

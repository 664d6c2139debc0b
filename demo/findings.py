"""What findings say of runs whose faults are known: held-out scenes of the demo model, with faults made on purpose.

    scripts/demo --findings

Prints Markdown: how often each fault is found, and how often a healthy run is said to have one. Thresholds were chosen
by the first half of the scenes, so that the figures of the second half are those to believe.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..i2am_core import Examined, examine
from .evaluate import SCENES
from .faults import TRIALS, Fault, Runs
from .steer import table

STEPS = 10
HEADS = ["run", "findings that are right", "first half of the scenes", "second half", "other faults said"]


def rows(runs: Runs) -> Iterator[list[str]]:
    """One for each trial."""
    for name, fault in TRIALS.items():
        results = examined(runs, fault)
        halves = results[: len(results) // 2], results[len(results) // 2 :]
        others = Counter(key for result in results for key in faults_of(result) if key not in fault.finds)
        yield [
            name,
            ", ".join(fault.finds) or "no fault",
            *(f"{sum(is_right(result, fault) for result in half)} of {len(half)}" for half in halves),
            ", ".join(f"{key} ({count})" for key, count in others.most_common()),
        ]


def examined(runs: Runs, fault: Fault) -> list[Examined]:
    """All scenes of a trial, in the order of the study."""
    return [
        examine(attribution, item, **runs.marked(fault, int(scene)))
        for part, attribution in runs.of(fault)
        for item, scene in enumerate(part)
    ]


def is_right(result: Examined, fault: Fault) -> bool:
    """Whether one of the findings that must be made was made; of a healthy run, whether no fault was."""
    if not fault.finds:
        return not faults_of(result)
    return any(finding.key in fault.finds for finding in result.findings)


def faults_of(result: Examined) -> set[str]:
    """The keys of what is said to be wrong."""
    return {finding.key for finding in result.findings if finding.weight == "fault"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--cache", type=Path, help="a folder from which an interrupted run goes on")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(table(HEADS, list(rows(Runs(a.scenes, a.steps, 1, a.cache or Path(folder))))) + "\n")


if __name__ == "__main__":
    main()

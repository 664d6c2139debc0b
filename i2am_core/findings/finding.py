"""The vocabulary of findings: one sentence in plain words, backed by numbers with what they are compared with."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar, get_args

from ..effect import Owner
from ..kinds import Direction
from ..selection import Selection

Subject = TypeVar("Subject")
"""What a rule reads: the facts of one picture, or of two runs."""

Weight = Literal["fault", "fine", "fact"]
"""Something is wrong; something is as it should be; something to know."""
WEIGHTS: tuple[Weight, ...] = get_args(Weight)
MARKS: dict[Weight, str] = {"fault": "[!]", "fact": "[i]", "fine": "[ok]"}

Shows = Literal["effect", "regions", "attention", "picture", "run"]
"""What proves a finding: a map of what was caused, regions of a reference, a map of attention, pictures, or the run's
account."""

Suggestion = Literal[
    "", "stronger", "longer", "switch on", "mask it", "measure", "measure effect", "measure without",
    "another reference", "another way", "undo", "look at all"
]  # fmt: skip
"""What to try, as a key: how, depends on the mechanism, and is worded where its nodes are known."""
SUGGESTIONS: tuple[Suggestion, ...] = get_args(Suggestion)

Value = float | int | str
Values = dict[str, Value]


@dataclass(frozen=True)
class Evidence:
    """Where to look for what a finding says: a map of these, or the account of the run."""

    shows: Shows
    selection: Selection = field(default_factory=Selection)
    direction: Direction = "r2g"
    owner: Owner | None = None


RUN = Evidence("run")


@dataclass(frozen=True)
class Finding:
    """One finding of the ``rule`` of this name, of the ``case`` that its sentence is written for.

    ``values`` fill that sentence; each number stands beside its baseline. ``of_thumb`` says that the threshold was
    measured on one small model. ``suggestion`` is a key.
    """

    rule: str
    case: str
    weight: Weight
    values: Mapping[str, Value]
    evidence: Evidence
    suggestion: Suggestion = ""
    of_thumb: bool = False

    @property
    def key(self) -> str:
        """The name of its sentence: that of its rule and case."""
        return f"{self.rule}: {self.case}"

    @property
    def of_run(self) -> bool:
        """Whether it is the same of all pictures of a batch: the account of the run proves it."""
        return self.evidence.shows == "run"

    def worded(self, sentences: Mapping[str, str]) -> str:
        """Its sentence, from templates by ``key`` whose numbers are the ``values``."""
        return sentences[self.key].format(**self.values)


@dataclass(frozen=True)
class Rule(Generic[Subject]):
    """One rule: ``find`` yields what holds of what it reads, and raises Lacking where it cannot be known.

    ``sentences`` are templates by case, in English.
    """

    name: str
    find: Callable[[Subject], Iterator[Finding]]
    sentences: Mapping[str, str]

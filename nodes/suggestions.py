"""What to try where something is wrong: for each mechanism the settings of its own nodes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..i2am_core import Finding, Suggestion

Setting = tuple[str, str]
"""The class of a node, and one of its inputs."""
RANGE = "ConditioningSetTimestepRange"
STEER: Setting = ("I2AM_Steer", "strength")


@dataclass(frozen=True)
class Try:
    """A sentence without its full stop, and the ``settings`` that it names."""

    sentence: str
    settings: tuple[Setting, ...] = ()
    measures: bool = False  # and changes nothing of the picture


TRIES: dict[Suggestion, dict[str, Try]] = {
    # by mechanism; "" is for those that are not among them
    "stronger": {
        "IP-Adapter": Try(
            "a higher weight on IPAdapter Advanced, or strength 2 on I2AM Steer by 'output'",
            (("IPAdapterAdvanced", "weight"), STEER, ("I2AM_Steer", "by")),
        ),
        "style tokens": Try(
            "a higher strength on Apply Style Model, or strength 2 on I2AM Steer",
            (("StyleModelApply", "strength"), STEER),
        ),
        "reference frames": Try(
            "a higher strength on WanVaceToVideo where that gives the reference, or strength 2 on I2AM Steer",
            (("WanVaceToVideo", "strength"), STEER),
        ),
        "": Try("strength 2 on I2AM Steer", (STEER,)),
    },
    "longer": {
        "IP-Adapter": Try(
            "an earlier start_at and a later end_at on IPAdapter Advanced",
            (("IPAdapterAdvanced", "start_at"), ("IPAdapterAdvanced", "end_at")),
        ),
        "": Try(
            "more of the steps: start and end of ConditioningSetTimestepRange, or steps of I2AM Steer, if you use them",
            ((RANGE, "start"), (RANGE, "end"), ("I2AM_Steer", "steps")),
        ),
    },
    "mask it": {
        "": Try(
            "strength 0 on I2AM Steer where it is not wanted: generated_region on the picture, reference_region on the "
            "reference",
            (STEER, ("I2AM_Steer", "generated_region"), ("I2AM_Steer", "reference_region")),
        ),
    },
    "measure": {"": Try("more probe_steps on I2AM Effect", (("I2AM_Effect", "probe_steps"),), measures=True)},
    "measure effect": {"": Try("I2AM Effect on the MODEL line, before the sampler", measures=True)},
    "measure without": {
        "": Try(
            "I2AM Effect, with its input without connected to the same conditioning made without it",
            (("I2AM_Effect", "without"),),
            measures=True,
        ),
    },
    "another way": {
        "": Try("giving the reference in a way that this model reads (the help of I2AM Capture lists them)")
    },
    "another reference": {"": Try("a reference that shows what is wanted: large, sharp, and cropped to it")},
    "undo": {"": Try("the same run without the node that changes what is read from the reference")},
}


def tries(findings: Sequence[Finding], mechanisms: Sequence[str]) -> Iterator[tuple[Finding, Try]]:
    """Of each finding that has one, what to try where references come by these ``mechanisms``."""
    several = len({finding.evidence.owner for finding in findings if isinstance(finding.evidence.owner, int)}) > 1
    for finding in findings:
        of_mechanism, owner = TRIES.get(finding.suggestion), finding.evidence.owner
        if of_mechanism is None:
            continue
        one = of_mechanism[""]
        if len(mechanisms) == 1:  # of several, which one the finding is about is not known
            one = of_mechanism.get(mechanisms[0], one)
        steers = any(node == STEER[0] for node, _ in one.settings)
        if steers and owner == "conditioning":  # which no Steer can reach
            continue
        if steers and several and isinstance(owner, int):
            one = replace(one, sentence=f"{one.sentence} (reference {owner} of I2AM Steer)")
        yield finding, one

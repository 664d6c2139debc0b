"""What to try where something is wrong: for each mechanism the settings of its own nodes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..i2am_core import Finding, Suggestion

Setting = tuple[str, str]
"""The class of a node, and one of its inputs."""
RANGE = "ConditioningSetTimestepRange"
STEER: Setting = ("I2AM_Steer", "strength")
ADAPTERS = ("IPAdapter", "IPAdapterAdvanced")
# Measured with the demo models (demo/README.md): in a softmax that text and picture share, 1.25 by guidance helped
# weakened references most, and little; where the reference is alone in its softmax, strength 2 and more helped more.
BY_GUIDANCE = "strength 1.25 on I2AM Steer by 'guidance', which makes sampling take twice as long"
BY_ATTENTION = "strength 2 on I2AM Steer"


@dataclass(frozen=True)
class Try:
    """A sentence without its full stop, and the ``settings`` that it names."""

    sentence: str
    settings: tuple[Setting, ...] = ()
    measures: bool = False  # and changes nothing of the picture


def _of_adapters(*names: str) -> tuple[Setting, ...]:
    return tuple((node, name) for node in ADAPTERS for name in names)


def _of_steer(*names: str) -> tuple[Setting, ...]:
    return tuple((STEER[0], name) for name in names)


TRIES: dict[Suggestion, dict[str, Try]] = {
    # by mechanism; "" is for those that are not among them
    "stronger": {
        "IP-Adapter": Try(
            "a higher weight on IPAdapter or IPAdapter Advanced, or strength 2 on I2AM Steer by 'output'",
            (*_of_adapters("weight"), STEER, *_of_steer("by")),
        ),
        "style tokens": Try(
            f"a higher strength on Apply Style Model, or {BY_GUIDANCE}",
            (("StyleModelApply", "strength"), STEER, *_of_steer("by")),
        ),
        "reference frames": Try(
            f"a higher strength on WanVaceToVideo where that gives the reference, or {BY_GUIDANCE}",
            (("WanVaceToVideo", "strength"), STEER, *_of_steer("by")),
        ),
        "cross-attention tokens": Try(BY_ATTENTION, (STEER,)),
        "image cross-attention": Try(BY_ATTENTION, (STEER,)),
        "": Try(BY_GUIDANCE, (STEER, *_of_steer("by"))),
    },
    "longer": {
        "IP-Adapter": Try(
            "an earlier start_at and a later end_at on IPAdapter or IPAdapter Advanced",
            _of_adapters("start_at", "end_at"),
        ),
        "": Try(
            "more of the steps: start and end of ConditioningSetTimestepRange, or steps of I2AM Steer, if you use them",
            ((RANGE, "start"), (RANGE, "end"), *_of_steer("steps")),
        ),
    },
    "switch on": {
        "IP-Adapter": Try(
            "a weight other than 0 on IPAdapter or IPAdapter Advanced, and a start_at that is before its end_at",
            _of_adapters("weight", "start_at", "end_at"),
        ),
        "": Try("a strength above 0 on I2AM Steer, if you use it", (STEER,)),
    },
    "mask it": {
        "IP-Adapter": Try(
            "attn_mask on IPAdapter or IPAdapter Advanced for where it is wanted, or strength 0 on I2AM Steer where it "
            "is not: generated_region on the picture, reference_region on the reference",
            (*_of_adapters("attn_mask"), STEER, *_of_steer("generated_region", "reference_region")),
        ),
        "": Try(
            "strength 0 on I2AM Steer where it is not wanted: generated_region on the picture, reference_region on the "
            "reference",
            (STEER, *_of_steer("generated_region", "reference_region")),
        ),
    },
    "measure": {"": Try("more probe_steps on I2AM Effect", (("I2AM_Effect", "probe_steps"),), measures=True)},
    "look at all": {"": Try("every 1 on I2AM Capture", (("I2AM_Capture", "every"),), measures=True)},
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

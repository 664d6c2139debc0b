"""All rules applied to one picture of a run."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..attribution import Attribution
from ..errors import AttributionError, Lacking
from .facts import Facts
from .finding import MARKS, WEIGHTS, Finding, Rule, Subject
from .rules import display, form, looked, parts, place, rest, rivals, steps, strength, unmeasured, unseen

RULES: tuple[Rule[Facts], ...] = (
    *(strength.RULE, form.RULE, looked.RULE, place.RULE, rivals.RULE, steps.RULE, parts.RULE, rest.RULE),
    *(unmeasured.RULE, unseen.RULE, display.RULE),
)
SENTENCES: Mapping[str, str] = {f"{rule.name}: {case}": text for rule in RULES for case, text in rule.sentences.items()}
"""The templates of all sentences in English, by the key of a finding."""

OF_RUN = (unmeasured.RULE, unseen.RULE)
"""Those that are about the whole run, and hold also of a picture of which nothing is painted."""

NOT_PAINTED = "nothing of this picture is painted, since the sampler's mask keeps all of it"
OF_THUMB = "What is called little here is a rule of thumb: it was measured on one small model."


@dataclass(frozen=True)
class Examined:
    """What was found, faults first; and which rules were not applied, by name with what they lacked."""

    findings: tuple[Finding, ...]
    lacking: Mapping[str, str]


def examine(
    attribution: Attribution, item: int = 0, mask: Tensor | None = None, object_mask: Tensor | None = None
) -> Examined:
    """What the rules find in one picture; ``mask [H, W]`` is on it, ``object_mask [H, W]`` on the references.

    Raises UnknownItem.
    """
    attribution.check_item(item)
    facts = Facts(attribution, item, mask, object_mask)
    rules = RULES if facts.is_painted else OF_RUN
    findings, lacking = apply(rules, facts)
    lacking |= {rule.name: NOT_PAINTED for rule in RULES if rule not in rules}
    return Examined(tuple(sorted(findings, key=lambda x: WEIGHTS.index(x.weight))), lacking)


def apply(rules: Sequence[Rule[Subject]], subject: Subject) -> tuple[list[Finding], dict[str, str]]:
    """What rules find in what they read, in their order; and by rule what it lacked."""
    results: list[Finding] = []
    lacking: dict[str, str] = {}
    for rule in rules:
        try:
            results += rule.find(subject)
        except AttributionError as error:  # a map that there is not, in a run of another form than those we know
            lacking[rule.name] = error.what if isinstance(error, Lacking) else str(error).rstrip(".")
    return results, lacking


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """Findings in English, a line each, with its mark; and that thresholds are rules of thumb, where they are."""
    return [*_lines(findings), *_of_thumb(findings)]


def run_lines(
    attribution: Attribution,
    advise: Callable[[Sequence[Finding]], Iterable[str]] = lambda findings: (),
    most: int | None = None,
    others: str = "and {} more pictures.",
) -> Iterator[str]:
    """All findings of a run in English: what is of the whole run, then those of each of its first ``most`` pictures.

    ``advise`` has lines that follow the findings that it is given; ``others`` is said of the other pictures.
    """
    findings: list[Finding] = []
    for heading, group in _groups(attribution, attribution.items if most is None else most):
        yield from [heading] * bool(heading)
        yield from _lines(group)
        yield from advise(group)
        findings += group
    left_out = attribution.items - (most or attribution.items)
    if left_out > 0 and not all(finding.of_run for finding in findings):
        yield others.format(left_out)
    yield from _of_thumb(findings)


def _groups(attribution: Attribution, most: int) -> Iterator[tuple[str, list[Finding]]]:
    """Findings under their headings: a single picture, and what is of the whole run, have none."""
    by_picture = [examine(attribution, item).findings for item in range(min(attribution.items, most))]
    if attribution.items == 1:
        groups = [("", list(by_picture[0]))]
    else:
        of_run: dict[str, Finding] = {}  # by its sentence, since each picture has its own
        for finding in (x for findings in by_picture for x in findings if x.of_run):
            of_run.setdefault(finding.worded(SENTENCES), finding)
        groups = [("", list(of_run.values()))]
        for item, findings in enumerate(by_picture):
            groups.append((f"picture {item}:", [x for x in findings if not x.of_run]))
    return ((heading, group) for heading, group in groups if group)


def _lines(findings: Sequence[Finding]) -> list[str]:
    return [f"{MARKS[finding.weight]} {finding.worded(SENTENCES)}" for finding in findings]


def _of_thumb(findings: Sequence[Finding]) -> list[str]:
    return [OF_THUMB] * any(finding.of_thumb for finding in findings)

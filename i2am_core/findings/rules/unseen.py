"""Was everything seen: all that was given, and all attention that may read a reference?"""

from collections.abc import Iterator

from ...given import Fate
from ..facts import Facts
from ..finding import RUN, Finding, Rule, Suggestion, Values, Weight

FATES: dict[Fate, tuple[Weight, Suggestion]] = {
    "ignored": ("fault", "another way"),
    "elsewhere": ("fact", "measure without"),
    "unknown": ("fact", ""),
}
PAINTED_INTO = "concat_latent_image"


def find(facts: Facts) -> Iterator[Finding]:
    """By the account of the run: fates of what was given, references that no call reads, calls that were skipped."""
    a = facts.attribution
    for given in a.given:
        if given.certain and given.fate in FATES:
            weight, suggestion = FATES[given.fate]
            if given.fate == "ignored" and not given.advice:  # a strength of 0, or what is not there to be read
                weight, suggestion = "fact" if given.key == PAINTED_INTO else weight, ""
            values: Values = {"what": given.what, "how": given.how}
            yield Finding("unseen", given.fate, weight, values, RUN, "" if facts.has_effects_of_steps else suggestion)
    for number, reference in enumerate(a.references):
        if a.entries and number not in facts.read:
            values = {"name": facts.names[number], "tokens": reference.tokens, "captured": a.captured_calls}
            yield Finding("unseen", "not read", "fault", values, RUN, "another way")
    missed = sum(a.skipped.get(reason, 0) for reason in a.missed)
    if missed and a.captured_calls:
        values = {"missed": missed, "captured": a.captured_calls, "reasons": "; ".join(a.missed)}
        yield Finding("unseen", "calls", "fact", values, RUN)


SENTENCES = {
    "ignored": "{what}: this model ignores it ({how}).",
    "elsewhere": "Not everything was seen: {what} reaches the model by a route that attention does not show ({how}).",
    "unknown": "Not everything was seen: what becomes of {what} cannot be told ({how}).",
    "not read": "{name} was given, {tokens} tokens, and none of the {captured} attention calls that were captured "
    "reads it.",
    "calls": "Not everything was seen: {missed} attention calls that may read a reference were skipped, beside "
    "{captured} that were captured ({reasons}).",
}
RULE = Rule("unseen", find, SENTENCES)

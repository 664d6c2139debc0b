"""Does a reference act where the mask is, or also elsewhere?"""

from collections.abc import Iterator

from ...effect import rms
from ...errors import Lacking
from ..facts import Facts
from ..finding import Evidence, Finding, Rule, Suggestion, Values, Weight
from .strength import WEAK

LEAST = 0.5
"""Of the way from what chance would put inside the mask (its area) to everything (docs/findings.md)."""
NO_MASK = "there is no mask that leaves out a part of the picture"
TOO_WEAK = "no reference changes enough to have a place"


def find(facts: Facts) -> Iterator[Finding]:
    """By effect: what part of it is inside the mask, against the mask's part of the picture.

    Of several references it is not known which one the mask is for. Where one is in place it may be that one, and the
    others may be there for the rest: no fault.
    """
    if facts.cover is None:
        raise Lacking(NO_MASK)
    effects = {owner: facts.effect(owner) for owner in facts.owners}
    if all(rms(effect) < WEAK / 2 for effect in effects.values()):
        raise Lacking(TOO_WEAK)
    area = float(facts.cover.mean())
    parts = {
        owner: float((facts.cover * effect).sum() / effect.sum())
        for owner, effect in effects.items()
        if rms(effect) >= WEAK / 2  # over all of the picture: of less, the place would be that of the rounding
    }
    least = area + LEAST * (1 - area)
    one_is_in_place = max(parts.values()) >= least
    for owner, part in parts.items():
        values: Values = {"name": facts.names[owner], "part": part, "area": area}
        evidence = Evidence("effect", facts.selection(reference=owner), owner=owner)
        pasted = facts.mask is None  # the sampler's own: it keeps what is outside as it was
        weight: Weight = "fine"
        case = "in place"
        if part < least:
            weight = "fact" if one_is_in_place or (pasted and part > area) else "fault"
            case = "not there" if part <= area else "bleeds"
        suggestion: Suggestion = "" if one_is_in_place else "mask it"
        ending = ", and it is lost" if pasted and case != "in place" else ""
        yield Finding("place", case + ending, weight, values, evidence, suggestion, True)


_LOST = " A sampler with this mask puts back what was outside, so that this is lost."
_BLEEDS = (
    "{name} also acts outside the mask: {part:.0%} of what it changes lies inside, where the mask is {area:.0%} of the "
    "picture."
)
_BESIDE = (
    "{name} acts beside the mask: {part:.0%} of what it changes lies inside, no more than chance would put there, "
    "since the mask is {area:.0%} of the picture."
)
SENTENCES = {
    "in place": "{name} stays in place: {part:.0%} of what it changes lies inside the mask, which is {area:.0%} of the "
    "picture.",
    "bleeds": _BLEEDS,
    "bleeds, and it is lost": _BLEEDS + _LOST,
    "not there": _BESIDE,
    "not there, and it is lost": _BESIDE + _LOST,
}
RULE = Rule("place", find, SENTENCES)

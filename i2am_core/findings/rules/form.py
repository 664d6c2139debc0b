"""Does a reference bring form, or only a tint: the same change everywhere, as a blank one does?"""

from collections.abc import Iterator

from torch import Tensor

from ...errors import Lacking
from ..facts import Facts
from ..finding import Evidence, Finding, Rule, Suggestion, Values
from .strength import WEAK

LEAST = 0.17
"""Of the geometric mean of two contrasts, in latent units: of what a reference changes, and of what is painted.

Neither alone tells a blank reference and one of noise from healthy ones on the demo model (docs/findings.md): noise
changes what varies, and leaves what does not.
"""
FEWEST = 16  # positions: of fewer, healthy references have as little form as blank ones
TOO_WEAK = "no reference changes enough to have a form"
NO_PREDICTIONS = "predictions with and without the reference were not kept: the budget was too small"


def find(facts: Facts) -> Iterator[Finding]:
    """By the predictions with and without a reference: what varies over the positions that count."""
    if int(facts.inside.sum()) < FEWEST:
        raise Lacking(f"{facts.where} has fewer than {FEWEST} places of the latent, over which hardly anything varies")
    strong = [x for x in facts.owners if facts.certainty(x) in ("measured", "rough") and facts.strength(x) >= WEAK]
    if not strong:
        raise Lacking(TOO_WEAK)
    for owner in strong:
        pairs = facts.predictions(owner)
        if not pairs:
            raise Lacking(NO_PREDICTIONS)
        change = sum(_contrast(with_ - without) for with_, without in pairs) / len(pairs)
        painted = sum(_contrast(with_) for with_, _ in pairs) / len(pairs)
        form = (change * painted) ** 0.5
        values: Values = {"name": facts.names[owner], "where": facts.where, "change": change, "painted": painted}
        values |= {"form": form, "least": LEAST}
        evidence = Evidence("effect", facts.selection(facts.steps_of(owner), owner), owner=owner)
        if form < LEAST:
            is_strong = facts.strength(owner) >= 2 * WEAK
            suggestion: Suggestion = "another reference" if is_strong else "stronger"
            yield Finding("form", "none" if is_strong else "weak", "fault", values, evidence, suggestion, of_thumb=True)
        else:
            yield Finding("form", "some", "fine", values, evidence, of_thumb=True)


def _contrast(values: Tensor) -> float:
    """How much latents ``[C, positions]`` vary over the positions."""
    return float((values - values.mean(1, keepdim=True)).square().mean().sqrt())


SENTENCES = {
    "none": "{name} brings little form: what it changes varies by {change:.2f} latent units over {where}, and what is "
    "painted there by {painted:.2f}; together {form:.3g}, where {least:.2f} is little. A blank or a noisy reference "
    "does so.",
    "weak": "{name} brings little form: what it changes varies by {change:.2f} latent units over {where}, and what is "
    "painted there by {painted:.2f}; together {form:.3g}, where {least:.2f} is little. A reference that acts weakly "
    "does so, and a blank or a noisy one.",
    "some": "{name} brings form: what it changes varies by {change:.2f} latent units over {where}, and what is painted "
    "there by {painted:.2f}; together {form:.3g}, where {least:.2f} is little.",
}
RULE = Rule("form", find, SENTENCES)

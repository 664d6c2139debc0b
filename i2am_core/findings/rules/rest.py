"""Who has the rest of the attention, where references and the text compete: the text, or the picture itself?"""

from collections.abc import Iterator

from ..facts import Facts
from ..finding import Evidence, Finding, Lacking, Rule

NO_SHARES = "references and the text do not compete in one softmax, or whose part is how large was not recorded"


def find(facts: Facts) -> Iterator[Finding]:
    """By the parts of the attention, as means over steps and layers, over the positions that count."""
    recorded = facts.parts_of_attention
    if recorded is None:
        raise Lacking(NO_SHARES)
    references, text = recorded
    parts = {"references": references, "text": text, "rest": max(0.0, 1 - references - text)}
    most = max(parts, key=lambda name: parts[name])
    yield Finding("rest", most, "fact", {**parts, "where": facts.where}, Evidence("attention", facts.selection()))


_PARTS = "of the attention in {where}, references get {references:.0%}, the text {text:.0%}, and the rest {rest:.0%}, "
SENTENCES = {
    "references": "References have the most of it: " + _PARTS + "which is mostly the picture itself.",
    "text": "The text has the most of it: " + _PARTS + "which is mostly the picture itself.",
    "rest": "The picture looks at itself the most: " + _PARTS + "which is mostly that.",
}
RULE = Rule("rest", find, SENTENCES)

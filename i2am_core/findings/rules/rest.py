"""Who has the rest of the attention, where references and the text compete: the text, or the picture itself?"""

from collections.abc import Iterator

from ..facts import Facts
from ..finding import Evidence, Finding, Rule, Values

NOTHING = 0.005  # of the attention: less is no percent


def find(facts: Facts) -> Iterator[Finding]:
    """By the parts of the attention, as means over steps and layers, over the positions that count."""
    references, text = facts.parts_of_attention
    values: Values = {"references": references, "text": text, "rest": max(0.0, 1 - references - text)}
    case = "beside the text" if 1 - references - text < NOTHING else "beside the text and the picture"
    yield Finding("rest", case, "fact", values | {"where": facts.where}, Evidence("attention", facts.selection()))


SENTENCES = {
    "beside the text": "Of the attention in {where}, references get {references:.0%}, and the text {text:.0%}.",
    "beside the text and the picture": "Of the attention in {where}, references get {references:.0%}, the text "
    "{text:.0%}, and the rest, which is mostly the picture itself, {rest:.0%}.",
}
RULE = Rule("rest", find, SENTENCES)

"""Which maps say less than they seem to?"""

from collections.abc import Iterator

from ...errors import Lacking
from ...kinds import MapKind
from ...reading.levels import maps
from ...reading.metrics import concentration, is_flat
from ..facts import Facts
from ..finding import RUN, Evidence, Finding, Rule, Values

NO_MAPS = "there are no maps of attention"


def find(facts: Facts) -> Iterator[Finding]:
    """One token alone, a place that is a guess, a map that is the same everywhere."""
    if not facts.read:
        raise Lacking(NO_MAPS)
    for number in facts.read:
        reference = facts.attribution.references[number]
        evidence = Evidence("attention", facts.selection(reference=number))
        values: Values = {"name": facts.names[number], "tokens": reference.tokens}
        if reference.alone:
            yield Finding("display", "alone", "fact", values | {"share": 1.0}, RUN)
            continue
        if reference.approximate and reference.grid is not None:
            yield Finding("display", "approximate", "fact", values | {"grid": str(reference.grid)}, RUN)
        on_picture = maps(facts.attribution, MapKind("r2g"), "unified", evidence.selection).values
        if bool(is_flat(on_picture).all()):
            values |= {"concentration": float(concentration(on_picture)[0]), "most": 1.0}
            yield Finding("display", "flat", "fact", values, evidence)


SENTENCES = {
    "alone": "{name} is {tokens} token, alone in its softmax: its share is {share:.0f} by definition, and its map on "
    "the picture says nothing of it.",
    "approximate": "Where the {tokens} tokens of {name} lie in the reference, on a grid of {grid}, is an estimate: "
    "maps on the reference may be off, maps on the picture are not.",
    "flat": "The map of {name} on the picture is the same everywhere (concentration {concentration:.2f} of "
    "{most:.0f}): it says nothing of where, and is drawn dark.",
}
RULE = Rule("display", find, SENTENCES)

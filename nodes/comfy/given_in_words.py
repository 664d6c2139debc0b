"""What was given and what became of it, in the sentences of a refusal."""

from collections.abc import Sequence

from ...i2am_core.given import GivenReference


def sentences_of(given: Sequence[GivenReference]) -> list[str]:
    """What was given, and what may have been: at most a sentence of each, without a full stop."""
    certain, perhaps = ("; ".join(x.sentence for x in given if x.certain is wanted) for wanted in (True, False))
    return [f"Given: {certain}"] * bool(certain) + [f"It may be that there are: {perhaps}"] * bool(perhaps)


def advice_of(given: Sequence[GivenReference]) -> list[str]:
    """What to do, each sentence once, without a full stop."""
    return list(dict.fromkeys(x.advice for x in given if x.advice))

"""How a run ends that cannot be steered: with one sentence, which names the node."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from ...i2am_core.errors import AttributionError

NOT_STEERED = "I2AM Steer cannot steer this run, and an unsteered picture would be a wrong one: {}"


@contextmanager
def named() -> Iterator[None]:
    """Errors of a selection become a ValueError that names the node: ComfyUI marks the sampler, where they turn up."""
    try:
        yield
    except AttributionError as error:
        raise ValueError(f"I2AM Steer: {readable(str(error))}") from error


def readable(text: str, longest: int = 600) -> str:
    """A sentence in one line that repeats what someone typed: without what is no letter, cut in the middle if long."""
    if len(text) > longest:
        half = longest // 2 - 2
        text = f"{text[:half]}...{text[-half:]}"
    return "".join(letter if letter.isprintable() else "?" for letter in text.replace("\n", " "))


def refuse(reason: str) -> NoReturn:
    """Raises ValueError: the run cannot be steered, for this reason."""
    raise ValueError(NOT_STEERED.format(reason.rstrip(".") + "."))

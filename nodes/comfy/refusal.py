"""How a run ends that cannot be steered: with one sentence, which names the node."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from ...i2am_core.errors import AttributionError
from ...i2am_core.printing import printable

LONGEST = 600  # letters of a sentence that repeats what someone typed
NOT_STEERED = "I2AM Steer cannot steer this run, and an unsteered picture would be a wrong one: {}"


@contextmanager
def named() -> Iterator[None]:
    """Errors of a selection become a ValueError that names the node: ComfyUI marks the sampler, where they turn up."""
    try:
        yield
    except AttributionError as error:
        raise ValueError(f"I2AM Steer: {printable(str(error), LONGEST)}") from error


class NotSupported(ValueError):
    """What I2AM does not read, in a sentence for a person: a reason of a skip, and no fault of the program."""


def refuse(reason: str) -> NoReturn:
    """Raises ValueError: the run cannot be steered, for this reason."""
    raise ValueError(NOT_STEERED.format(reason.rstrip(".") + "."))

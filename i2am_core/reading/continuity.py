"""Whether one run went on with the latent where another ended: by what both were, where it is known, else by sigmas."""

from ..attribution import Attribution
from ..errors import NotOneRun

BY_SIGMAS = "that the second run went on with the latent of the first is known by their sigmas alone, which fit"
CHANGED = (
    "the second run did not begin with the latent that the first ended with: it may be that it was changed between the "
    "two, or that they are runs of different pictures"
)


def note_on_latents(first: Attribution, second: Attribution) -> str:
    """What is not known of the second going on with the latent of the first; "" where it is proved.

    Raises NotOneRun where it is proved that it did not: it began with what the first began with, or with another
    picture of its batch.
    """
    if not first.ended or len(second.began) != len(first.ended):
        return BY_SIGMAS
    went_on = [began in ended for began, ended in zip(second.began, first.ended, strict=True)]
    if all(went_on):
        return ""
    for item, began in enumerate(second.began):
        if went_on[item]:
            continue
        others = [other for other, ended in enumerate(first.ended) if began in ended]
        if others:
            raise NotOneRun("order", others[0], item)
        if first.began and began == first.began[item]:
            raise NotOneRun("latent", item, item)
    return CHANGED

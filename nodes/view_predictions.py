"""The pictures with and without a reference for the viewer's file: what the model predicted in one step, decoded."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ..i2am_core import Attribution, HeaderPrediction, Owner, WithPredictions
from .images import small
from .predictions import STRONGEST, chosen, pair, removals_of

MOST_PAIRS = 8  # that are decoded: each is two pictures, and decoding is slow


class Decoder(Protocol):
    """ComfyUI's VAE."""

    def decode(self, samples: Tensor) -> Tensor: ...


def view_predictions(
    attribution: Attribution, vae: Decoder, add: Callable[[Tensor], str]
) -> tuple[WithPredictions, list[str]]:
    """One pair for each picture and reference, as long as there are no more than eight; and what there is to say of it.

    ``add`` takes a picture ``[H, W, 3]`` uint8 and gives the name of its tensor. Where ``vae`` does not decode this
    run's latents, a note says so.
    """
    places = [(item, owner) for owner in _owners(attribution) for item in range(attribution.items)]
    if not places:
        return {}, ["vae: there are no pictures with and without, since no effect was measured"]
    pairs: list[HeaderPrediction] = []
    notes: list[str] = []
    for item, owner in places[:MOST_PAIRS]:
        try:
            effects, removals = removals_of(attribution, owner)
            removal = chosen(effects, removals, STRONGEST, attribution.scope_on_latent(item))
            pictures = [_decoded(vae, latent) for latent in pair(effects, removal, item)]
        except ValueError as error:  # the maps do not depend on these pictures
            notes.append(f"vae: {error}")
            continue
        with_, without = map(add, pictures)
        pairs.append(
            HeaderPrediction(item=item, owner=owner, step=removal.step, picture_with=with_, picture_without=without)
        )
    if len(places) > MOST_PAIRS:
        notes.append(f"vae: of {len(places)} pairs of pictures with and without, {MOST_PAIRS} were decoded")
    return {"predictions": pairs} if pairs else {}, notes


def _owners(attribution: Attribution) -> list[Owner]:
    """The references that were taken away; what else was, where that is all that was measured."""
    owners = [] if attribution.effects is None else attribution.effects.owners
    return [x for x in owners if isinstance(x, int)] or owners


def _decoded(vae: Decoder, latent: Tensor) -> Tensor:
    """The picture ``[H, W, 3]`` uint8; of a video the first."""
    try:
        picture = vae.decode(latent)
    except torch.cuda.OutOfMemoryError as error:
        raise ValueError("there was not enough memory to decode the pictures with and without.") from error
    except RuntimeError as error:
        raise ValueError(
            f"it does not decode latents of {latent.shape[1]} channels ({error}): connect the one with which the "
            "workflow decodes its picture."
        ) from error
    return small(picture.flatten(0, -4)[0][..., :3])

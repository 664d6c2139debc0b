"""Marks on a conditioning that say which of its tokens came from a reference image.

ComfyUI copies a conditioning's dictionary all the way to the sampler, so a key of our own arrives there.
Nodes that append tokens (ConditioningConcat) keep the positions of what was there before.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...i2am_core.attribution import Reference
from ...i2am_core.tokens import TokenGrid, TokenGroup
from .located import Given

KEY = "i2am_references"
GUESS = "guessed_grid"  # of a tag whose grid follows from the number of its tokens alone
CELLS = "cells"  # of a tag whose tokens do not come row by row: the cell of each
READ_ON = "read_on"  # of a tag whose tokens a language model has read before it made those behind them
ZEROS = (
    "the tokens of {} are all 0, as a strength of 0 makes them: they hold nothing of the image, and get attention all "
    "the same"
)
DIGEST_BYTES = 16  # of a fingerprint
READ_BY_THE_WORDS = (
    "the language model has read {} before the words behind, so that these hold something of it, too: that is counted "
    "as text"
)
GUESSED_GRID = (
    "a guess: the {count} tokens of '{name}' are laid out as {grid}, since that is what a style node leaves that makes "
    "the tokens of an image fewer. If it was given a mask, they are what the mask has left over, and maps on the "
    "reference mean nothing; maps on the picture are exact"
)


def tag(name: str, start: int, tokens: Tensor, grid: tuple[int, int] | None, guessed: bool = False) -> dict[str, Any]:
    """A tag for ``tokens [B, M, C]`` from ``start``, on ``grid`` (height, width): a dictionary, as conditionings hold.

    Its key is a hash of the tokens: two references of one name stay apart, one that is used twice is one. ``guessed``
    says that the grid is only likely.
    """
    about = {"name": name, "start": start, "count": tokens.shape[1], "grid": grid, "key": fingerprint(tokens)}
    return about | {GUESS: True} if guessed else about


def guessed_grids(groups: Iterable[TokenGroup]) -> str:
    """What is to be said of references whose grid is a guess; "" where there is none."""
    notes = [GUESSED_GRID.format(count=x.count, name=x.name, grid=x.grid) for x in groups if x.approximate]
    return "; ".join(dict.fromkeys(notes))


def fingerprint(values: Tensor) -> str:
    """A hash that is the same for the same values in the same shape."""
    values = values.detach().to("cpu", torch.float32).contiguous()
    data = values.numpy().tobytes() + str(tuple(values.shape)).encode()
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def read_by_the_words(conditioning: Mapping[str, Any]) -> str:
    """A note on images that the words behind them have read; "" where there are none."""
    named = [f"'{t['name']}'" for t in conditioning.get(KEY, ()) if t.get(READ_ON)]
    return READ_BY_THE_WORDS.format(", ".join(named)) if named else ""


def is_fingerprint(key: str) -> bool:
    """Whether a key of a reference alone says which one it is; others are numbers, within one branch."""
    return len(key) == 2 * DIGEST_BYTES


def pictures(conditionings: Iterable[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Reference images ``[H, W, 3]`` uint8 that tags brought along, by the key of their reference."""
    return {t["key"]: t["picture"] for c in conditionings for t in c.get(KEY, ()) if "picture" in t}


def tagged_references(run: Given) -> list[Reference]:
    """All that the conditionings of a run are tagged with."""
    groups = (group for conditioning in run.conditionings for group in tagged(conditioning))
    return [Reference.of(group) for group in groups]


def note_on_zeros(context: Tensor, groups: Iterable[TokenGroup]) -> str:
    """A note on the tagged references whose tokens in ``context [B, tokens, C]`` are all 0; "" where there are none."""
    named = [f"'{group.name}'" for group in groups if not bool(context[:, columns_of(group)].any())]
    return ZEROS.format(", ".join(named)) if named else ""


def columns_of(group: TokenGroup) -> slice:
    """The tokens of a tagged reference, which are neighbours."""
    assert isinstance(group.index, slice)
    return group.index


def tagged(conditioning: Mapping[str, Any], by_language_model: bool | None = None) -> list[TokenGroup]:
    """The references that a conditioning is tagged with, in order; those that a language model made, or did not."""
    groups: list[TokenGroup] = []
    for t in conditioning.get(KEY, ()):
        if by_language_model not in (None, bool(t.get(READ_ON))):
            continue
        grid = None if t["grid"] is None else TokenGrid(*t["grid"])
        repeats = sum(group.key.startswith(t["key"]) for group in groups)
        key = f"{t['key']} again {repeats}" if repeats else t["key"]
        place = slice(t["start"], t["start"] + t["count"])
        groups.append(TokenGroup(t["name"], place, t["count"], grid, key, t.get(CELLS), approximate=bool(t.get(GUESS))))
    return groups

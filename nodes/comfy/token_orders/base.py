"""The order of the tokens in a model's joint attention: where the text is, the picture, and reference latents.

One file for each family of models. It proves the order by the lengths of the call, or refuses; and it names the blocks
that the model has, and the attentions of each.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ....i2am_core.attribution import Layer
from ....i2am_core.tokens import Index, TokenGrid, TokenGroup, span
from ..blocks import Block, ForeignModule
from ..located import CallSite, Given, Located, ModelCall, Skip

REFINER = "a refiner, in which text, picture and references do not meet yet"

NO_PLACE = "has no place for them"


class TokenOrder:
    """A family of models. ``family`` is the class of the denoiser in ComfyUI."""

    family: str
    takes_latents = False  # whether it has a place for reference latents

    def sequence(self, site: CallSite, call: ModelCall) -> "Sequence | Skip":
        """The order of the tokens of this attention call, or why it is not known."""
        raise NotImplementedError

    def variant(self, call: ModelCall) -> Hashable:
        """What of the call its blocks depend on: calls of one denoiser with equal variants have the same blocks."""
        return None

    def patch(self, denoiser: ForeignModule) -> int:
        """How many cells of a latent there are along each side of a token."""
        patch: int = denoiser.patch_size
        return patch

    def why_latents_are_unread(self, denoiser: ForeignModule, conditions: Mapping[str, Any]) -> str:
        """Why the model reads none of the reference latents that it is given, as what is said of it; "" where it may.

        ``conditions`` are all that it is given, as in ``ModelCall``.
        """
        return ""

    def references(self, denoiser: ForeignModule, conditions: Mapping[str, Any]) -> list[tuple[TokenGroup, Tensor]]:
        """The reference latents that it reads of what it is given, ``[B, ...]`` each, with its tokens from 0 on."""
        if not self.takes_latents or self.why_latents_are_unread(denoiser, conditions):
            return []
        latents = conditions.get("ref_latents") or []
        return list(zip(latent_groups(latents, 0, self.patch(denoiser)), latents, strict=True))

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        """The blocks that make attention calls, in this call of the denoiser."""
        raise NotImplementedError


@dataclass(frozen=True)
class Sequence:
    """One attention call over all tokens: N positions of the picture, on ``grid``."""

    layer: str  # "" where no block is known to make the call
    grid: TokenGrid
    queries: Index  # the picture among the rows
    picture: Index  # the picture among the columns
    text: slice  # the conditioning's own tokens among the columns; empty where they are elsewhere
    references: tuple[TokenGroup, ...] = ()  # reference latents among the columns
    styles: tuple[TokenGroup, ...] = ()  # tokens that USO puts before the text
    seen: tuple[TokenGroup, ...] = ()  # references once more, as a language model's eyes see them, among the text
    other_text: tuple[slice, ...] = ()  # tokens of the text by further text encoders, and of its padding
    of_others: bool = False  # whether the rows are those of references alone, in a call beside that of the picture

    @property
    def all_text(self) -> Tensor:
        """Columns of the text, by whichever encoder."""
        return torch.cat([torch.arange(x.start, x.stop) for x in (self.text, *self.other_text)])

    @property
    def picture_span(self) -> slice:
        """The picture among the columns, where these are neighbours: in all families but HiDream."""
        assert isinstance(self.picture, slice)
        return self.picture

    def located(
        self, site: CallSite, references: tuple[TokenGroup, ...], gain: Tensor | None = None, note: str = ""
    ) -> Located:
        """``references`` as located in this call, in which all columns compete."""
        layer = Layer(self.layer, self.grid, site.heads)
        if self.of_others:
            return Located(layer, slice(0, 0), site.keys, references, None, note, of_others=True)
        return Located(layer, self.queries, site.keys, references, gain, note)


def handed_over(conditioning: Mapping[str, Any]) -> dict[str, Any]:
    """What the model gets of a conditioning that the sampler has prepared, by the names that it has there."""
    return {name: x.cond for name, x in conditioning.get("model_conds", {}).items() if hasattr(x, "cond")}


@lru_cache
def patches(shape: tuple[int, ...], patch: int) -> TokenGrid:
    """The tokens of a latent ``[B, C, h, w]`` or ``[B, C, frames, h, w]``, which models pad to whole patches."""
    frames = shape[2] if len(shape) == 5 else 1
    return TokenGrid(-(-shape[-2] // patch), -(-shape[-1] // patch), frames)


def latent_groups(latents: Iterable[Tensor] | None, start: int, patch: int) -> tuple[TokenGroup, ...]:
    """The tokens of reference latents, one after the other, from column ``start``."""
    return _latent_groups(tuple(latent.shape for latent in latents or ()), start, patch)


@lru_cache
def _latent_groups(shapes: tuple[tuple[int, ...], ...], start: int, patch: int) -> tuple[TokenGroup, ...]:
    groups: list[TokenGroup] = []
    for number, shape in enumerate(shapes):
        grid = patches(shape, patch)
        columns = slice(start, start + grid.cells)
        groups.append(TokenGroup(f"reference latent {number + 1}", columns, grid.cells, grid, str(number)))
        start += grid.cells
    return tuple(groups)


def count_of(groups: Iterable[TokenGroup]) -> int:
    """How many tokens they have together."""
    return sum(group.count for group in groups)


def other_lengths(site: CallSite, **expected: int) -> Skip:
    """The skip of a call whose lengths prove another order than the known one."""
    parts = ", ".join(f"{count} of {name.replace('_', ' ')}" for name, count in expected.items())
    return Skip(f"attention of {site.queries} to {site.keys} tokens, which are not {parts}")


def text_first(
    site: CallSite,
    call: ModelCall,
    patch: int,
    latents: Iterable[Tensor] | None = None,
    styles: tuple[TokenGroup, ...] = (),
) -> Sequence | Skip:
    """``styles|text|picture|references``. With a cache of keys and values, references are columns only."""
    grid = patches(call.x, patch)
    text = slice(count_of(styles), count_of(styles) + call.text)
    picture = slice(text.stop, text.stop + grid.cells)
    references = latent_groups(latents, picture.stop, patch)
    end = picture.stop + count_of(references)
    if site.keys != end or site.queries not in (end, picture.stop):
        return other_lengths(
            site,
            style=count_of(styles),
            text=call.text,
            the_picture=grid.cells,
            reference_latents=count_of(references),
        )
    return Sequence(site.layer, grid, picture, picture, text, references, styles)


def text_first_perhaps_with_styles(
    site: CallSite, call: ModelCall, patch: int, latents: Iterable[Tensor] | None = None
) -> Sequence | Skip:
    """``text_first`` of models in which newer cores alone run what USO puts before the text: the lengths say which."""
    styles, given = uso_styles(call), tuple(latents or ())
    with_styles = text_first(site, call, patch, given, styles)
    return text_first(site, call, patch, given) if styles and isinstance(with_styles, Skip) else with_styles


def uso_styles(call: ModelCall | Given) -> tuple[TokenGroup, ...]:
    """Tokens before the text: each ``USOStyleReference`` puts its own before what is there, of three levels of SigLIP.

    ``UsoStyleProjectorPatch`` and ``SigLIPMultiFeatProjModel`` in comfy_extras/nodes_model_patch.py.
    """
    after_input = call.options.get("patches", {}).get("post_input", ())
    projectors = [p.model_patch.model for p in after_input if type(p).__name__ == "UsoStyleProjectorPatch"]
    levels = ("low", "mid", "high")
    counts = [sum(getattr(m, f"{level}_embedding_linear")[0].out_features for level in levels) for m in projectors]
    return tuple(
        span(f"USO style {number + 1}", sum(counts[number + 1 :]), count=count) for number, count in enumerate(counts)
    )

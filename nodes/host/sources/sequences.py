"""The order of the tokens in a model's joint attention: where the text is, the picture, and reference latents.

One function for each family of models. It proves the order by the lengths of the call, or refuses.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ....i2am_core.tokens import Index, TokenGrid, TokenGroup
from .base import CallSite, ModelCall, Skip


@dataclass(frozen=True)
class Sequence:
    """One attention call over all tokens: N positions of the picture, on ``grid``."""

    layer: str  # "" where the model does not say
    grid: TokenGrid
    queries: Index  # the picture among the rows
    picture: Index  # the picture among the columns
    text: slice  # the conditioning's own tokens among the columns; empty where they are elsewhere
    references: tuple[TokenGroup, ...] = ()  # reference latents among the columns


def sequence_of(site: CallSite, call: ModelCall) -> Sequence | Skip:
    """The order of tokens of this call, or why it is not known."""
    for family, order in ORDERS.items():
        if family in call.family:
            return order(site, call)
    return Skip(f"attention of a {type(call.denoiser).__name__}, whose order of tokens I2AM does not know")


def patches(height: int, width: int, patch: int) -> TokenGrid:
    """The tokens of a latent, which models pad to whole patches."""
    return TokenGrid(-(-height // patch), -(-width // patch))


def latent_group(number: int, latent: Tensor, start: int, patch: int) -> TokenGroup:
    """The tokens of a reference latent ``[..., h, w]``, from column ``start``."""
    grid = patches(*latent.shape[-2:], patch)
    return TokenGroup(f"reference latent {number + 1}", slice(start, start + grid.cells), grid.cells, grid, str(number))


def text_first(site: CallSite, call: ModelCall, patch: int) -> Sequence | Skip:
    """``text | picture | references``. With a cache of keys and values, references are no rows any more."""
    grid = patches(*call.x[-2:], patch)
    references, end = [], call.text + grid.cells
    for number, latent in enumerate(call.conditions.get("ref_latents") or ()):
        references.append(latent_group(number, latent, end, patch))
        end += references[-1].count
    if site.keys != end or site.queries not in (end, call.text + grid.cells):
        return Skip(
            f"attention of {site.queries} to {site.keys} tokens, which are not {call.text} of text, {grid.cells} of "
            f"the picture and {end - call.text - grid.cells} of reference latents"
        )
    rows = slice(call.text, call.text + grid.cells)
    return Sequence(site.layer, grid, rows, rows, slice(0, call.text), tuple(references))


def _flux(site: CallSite, call: ModelCall) -> Sequence | Skip:
    """``Flux._forward`` (comfy/ldm/flux/model.py); Flux.2 has text padded to 512 and one token for a cell."""
    return text_first(site, call, call.denoiser.patch_size)


def _unet(site: CallSite, call: ModelCall) -> Sequence | Skip:
    """Self-attention (attn1) of ``BasicTransformerBlock`` (comfy/ldm/modules/attention.py)."""
    if site.role != "attn1":
        return Skip("attention of a U-Net that is not its self-attention")
    if site.grid is None or not site.queries == site.keys == site.grid.cells:
        return Skip(f"self-attention of {site.queries} to {site.keys} tokens, on a feature map of {site.grid}")
    return Sequence(site.layer, site.grid, slice(None), slice(None), slice(0, 0))


ORDERS: dict[str, Callable[[CallSite, ModelCall], Sequence | Skip]] = {
    "Flux": _flux,
    "UNetModel": _unet,
}

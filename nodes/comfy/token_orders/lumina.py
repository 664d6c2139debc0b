"""Lumina 2 and Z-Image: refiners of text and picture apart, then layers over both; and Z-Image Omni's references."""

from collections.abc import Iterator

from torch import Tensor

from ....i2am_core.tokens import TokenGrid, TokenGroup, span
from ..blocks import Block, ForeignModule, listed
from ..located import CallSite, ModelCall, Skip
from .base import REFINER, Sequence, TokenOrder, other_lengths, patches

PICTURES = "noise refiner"  # in which reference latents and the picture meet, without the text
OTHER_REFINERS = ("context refiner", "siglip refiner")


class Lumina(TokenOrder):
    """``text|picture``, each padded at its end by Z-Image (``NextDiT``, comfy/ldm/lumina/model.py).

    With reference latents ``texts|siglip|R...|picture``: before the text there is one of each reference, behind it what
    is left over of these; and SigLIP has tokens for each reference, and empty ones for the picture, where the model has
    the layers for them. Texts and SigLIP's tokens are of no use to a model that is given no reference latents.
    """

    family = "NextDiT"
    takes_latents = True

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        if call.conditions.get("ref_latents"):
            return _with_references(site, call)
        grid = patches(call.x, call.denoiser.patch_size)
        text, padded = (_padded(count, call) for count in (call.text, grid.cells))
        if site.queries == site.keys == text + padded:
            picture, padding = slice(text, text + grid.cells), slice(call.text, text)  # the refiner fills it with text
            return Sequence(site.layer, grid, picture, picture, slice(0, call.text), other_text=(padding,))
        if site.queries == site.keys and site.keys in (text, padded):
            return Skip(REFINER, absent=True)
        return other_lengths(site, text=text, the_picture=padded)

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        for name in ("context_refiner", "noise_refiner", "siglip_refiner"):
            yield from listed(getattr(denoiser, name, None), name.replace("_", " "))
        yield from listed(denoiser.layers, "block")


def siglip_groups(call: ModelCall) -> tuple[TokenGroup, ...]:
    """What SigLIP sees in each reference, in the layers over all tokens; none where the model reads nothing of it."""
    if not (siglip := _siglip(call)):
        return ()
    groups, start = [], sum(_texts(call))
    for number, features in enumerate(siglip):
        if features is not None:
            grid = TokenGrid(*features.shape[1:3])
            groups.append(span(f"image {number + 1} through CLIP vision", start, grid))
        start += _siglip_tokens(features, call)
    return tuple(groups)


def _with_references(site: CallSite, call: ModelCall) -> Sequence | Skip:
    """The layers over all tokens, or the refiner of latents, which is known by its name: lengths may be alike."""
    if site.layer.startswith(OTHER_REFINERS):
        return Skip(REFINER, absent=True)
    texts, siglip = _texts(call), sum(_siglip_tokens(x, call) for x in _siglip(call))
    if pictures_alone := site.layer.startswith(PICTURES):
        texts, siglip = [0] * len(texts), 0
    grid, references = patches(call.x, call.denoiser.patch_size), _latents(call, sum(texts) + siglip)
    start = sum(texts) + siglip + sum(_padded(group.count, call) for group in references)
    picture, end = slice(start, start + grid.cells), start + _padded(grid.cells, call)
    if not site.queries == site.keys == end:
        latents = end - sum(texts) - siglip
        return other_lengths(site, texts=sum(texts), siglip=siglip, reference_latents_and_the_picture=latents)
    if pictures_alone:
        return Sequence(site.layer, grid, picture, picture, slice(0, 0), references)
    first = sum(texts[: len(references)])  # of each reference there is one before the conditioning's own
    text = slice(first, first + call.text)
    others = slice(0, first), slice(text.stop, sum(texts))
    return Sequence(site.layer, grid, picture, picture, text, references, other_text=others)


def _latents(call: ModelCall, start: int) -> tuple[TokenGroup, ...]:
    """The tokens of reference latents, each padded, from column ``start``."""
    groups = []
    for number, latent in enumerate(call.conditions["ref_latents"]):
        grid = patches(latent.shape, call.denoiser.patch_size)
        columns = slice(start, start + grid.cells)
        groups.append(TokenGroup(f"reference latent {number + 1}", columns, grid.cells, grid, str(number)))
        start += _padded(grid.cells, call)
    return tuple(groups)


def _texts(call: ModelCall) -> list[int]:
    """Tokens of each text: those of the references, the conditioning's own, and those left over."""
    count = len(call.conditions["ref_latents"])
    given = [_padded(context.shape[1], call) for context in call.conditions.get("ref_contexts") or ()]
    missing = [_multiple(call)] * (count - len(given))
    return [*given[:count], *missing, _padded(call.text, call), *given[count:]]


def _siglip(call: ModelCall) -> list[Tensor | None]:
    """SigLIP's features ``[B, h, w, C]`` for each reference, and for the picture: None where it has none."""
    latents, features = call.conditions.get("ref_latents") or (), list(call.conditions.get("siglip_feats") or ())
    if not latents or getattr(call.denoiser, "siglip_embedder", None) is None:
        return []
    return [*(features[n] if n < len(features) else None for n in range(len(latents))), None]


def _siglip_tokens(features: Tensor | None, call: ModelCall) -> int:
    return _multiple(call) if features is None else _padded(features.shape[1] * features.shape[2], call)


def _multiple(call: ModelCall) -> int:
    """Of which number of tokens their numbers are multiples, once they are padded."""
    return getattr(call.denoiser, "pad_tokens_multiple", None) or 1


def _padded(count: int, call: ModelCall) -> int:
    return -(-count // _multiple(call)) * _multiple(call)

"""The order of the tokens in a model's joint attention: where the text is, the picture, and reference latents.

One function for each family of models. It proves the order by the lengths of the call, or refuses.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ....i2am_core.attribution import Layer
from ....i2am_core.tokens import Index, TokenGrid, TokenGroup, span
from .base import CallSite, ModelCall, Probe, Skip

REFINER = "a refiner, in which text, picture and references are still apart"


@dataclass(frozen=True)
class Sequence:
    """One attention call over all tokens: N positions of the picture, on ``grid``."""

    layer: str  # "" where the model does not say
    grid: TokenGrid
    queries: Index  # the picture among the rows
    picture: Index  # the picture among the columns
    text: slice  # the conditioning's own tokens among the columns; empty where they are elsewhere
    references: tuple[TokenGroup, ...] = ()  # reference latents among the columns
    styles: tuple[TokenGroup, ...] = ()  # tokens that USO puts before the text

    def probe(
        self, site: CallSite, references: tuple[TokenGroup, ...], gain: Tensor | None = None, note: str = ""
    ) -> Probe:
        """What the picture takes from ``references``, among all columns of this call."""
        return Probe(
            Layer(self.layer, self.grid, site.heads), self.queries, slice(0, site.keys), references, gain, note
        )


def sequence_of(site: CallSite, call: ModelCall) -> Sequence | Skip:
    """The order of tokens of this call, or why it is not known."""
    for family, order in ORDERS.items():
        if family in call.family:
            return order(site, call)
    return Skip(f"attention of a {type(call.denoiser).__name__}, whose order of tokens I2AM does not know")


def patches(shape: tuple[int, ...], patch: int) -> TokenGrid:
    """The tokens of a latent ``[B, C, h, w]`` or ``[B, C, frames, h, w]``, which models pad to whole patches."""
    frames = shape[2] if len(shape) == 5 else 1
    return TokenGrid(-(-shape[-2] // patch), -(-shape[-1] // patch), frames)


def latent_groups(latents: Iterable[Tensor] | None, start: int, patch: int) -> tuple[TokenGroup, ...]:
    """The tokens of reference latents, one after the other, from column ``start``."""
    groups: list[TokenGroup] = []
    for number, latent in enumerate(latents or ()):
        grid = patches(latent.shape, patch)
        columns = slice(start, start + grid.cells)
        groups.append(TokenGroup(f"reference latent {number + 1}", columns, grid.cells, grid, str(number)))
        start += grid.cells
    return tuple(groups)


def count_of(groups: Iterable[TokenGroup]) -> int:
    return sum(group.count for group in groups)


def other_lengths(site: CallSite, **expected: int) -> Skip:
    """The lengths prove another order than the one that is known."""
    parts = ", ".join(f"{count} of {name.replace('_', ' ')}" for name, count in expected.items())
    return Skip(f"attention of {site.queries} to {site.keys} tokens, which are not {parts}")


def text_first(
    site: CallSite,
    call: ModelCall,
    patch: int,
    latents: Iterable[Tensor] | None = None,
    styles: tuple[TokenGroup, ...] = (),
) -> Sequence | Skip:
    """``styles|text|picture|references``. With a cache of keys and values, references are no rows any more."""
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


def _flux(site: CallSite, call: ModelCall) -> Sequence | Skip:
    """``Flux._forward`` (comfy/ldm/flux/model.py); Flux.2 has text padded to 512 and one token for a cell."""
    return text_first(site, call, call.denoiser.patch_size, call.conditions.get("ref_latents"), uso_styles(call))


def uso_styles(call: ModelCall) -> tuple[TokenGroup, ...]:
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


def _qwen_image(site: CallSite, call: ModelCall) -> Sequence | Skip:
    """``QwenImageTransformer2DModel._forward`` (comfy/ldm/qwen_image/model.py): latents have frames, mostly one."""
    return text_first(site, call, call.denoiser.patch_size, call.conditions.get("ref_latents"))


def _chroma(site: CallSite, call: ModelCall) -> Sequence | Skip:
    """``Chroma._forward`` (comfy/ldm/chroma/model.py) has no place for reference latents, though it may get some."""
    return text_first(site, call, call.denoiser.patch_size)


def _sd3(site: CallSite, call: ModelCall) -> Sequence | Skip:
    """``_block_mixing`` (comfy/ldm/modules/diffusionmodules/mmdit.py); in SD3.5 medium the picture also asks itself."""
    grid = patches(call.x, call.denoiser.patch_size)
    if site.queries == site.keys == grid.cells:
        return Sequence(site.layer, grid, slice(None), slice(None), slice(0, 0))
    return text_first(site, call, call.denoiser.patch_size)


def _omnigen2(site: CallSite, call: ModelCall) -> Sequence | Skip:
    """``text|references|picture`` (``OmniGen2Transformer2DModel.forward``, comfy/ldm/omnigen/omnigen2.py)."""
    patch = call.denoiser.patch_size
    grid = patches(call.x, patch)
    references = latent_groups(call.conditions.get("ref_latents"), call.text, patch)
    start = call.text + count_of(references)
    picture = slice(start, start + grid.cells)
    if site.queries == site.keys == picture.stop:
        return Sequence(site.layer, grid, picture, picture, slice(0, call.text), references)
    if site.queries == site.keys and site.keys in (call.text, count_of(references), grid.cells):
        return Skip(REFINER)
    return other_lengths(site, text=call.text, reference_latents=count_of(references), the_picture=grid.cells)


def _lumina(site: CallSite, call: ModelCall) -> Sequence | Skip:
    """``text|picture``, each padded at its end by Z-Image (``NextDiT``, comfy/ldm/lumina/model.py)."""
    if given := sorted({"ref_latents", "ref_contexts", "siglip_feats"} & call.conditions.keys()):
        return Skip(f"attention of a {type(call.denoiser).__name__} with {', '.join(given)}: not supported yet")
    grid = patches(call.x, call.denoiser.patch_size)
    multiple = getattr(call.denoiser, "pad_tokens_multiple", None) or 1
    text, padded = (-(-count // multiple) * multiple for count in (call.text, grid.cells))
    if site.queries == site.keys == text + padded:
        picture = slice(text, text + grid.cells)
        return Sequence(site.layer, grid, picture, picture, slice(0, call.text))
    if site.queries == site.keys and site.keys in (text, padded):
        return Skip(REFINER)
    return other_lengths(site, text=text, the_picture=padded)


def _hidream(site: CallSite, call: ModelCall) -> Sequence | Skip:
    """``picture|T5|Llama|Llama`` (``HiDreamImageTransformer2DModel._forward``, comfy/ldm/hidream/model.py).

    HiDream-E1 has its reference to the right of the latent, as one wider picture: in every row of tokens, the
    reference's come after the picture's.
    """
    patch, width = call.denoiser.patch_size, call.x[-1]
    reference = call.conditions.get("image_cond")
    beside = 0 if reference is None else reference.shape[-1]
    if beside and width % patch:
        return Skip(
            f"a latent {width} cells wide, where tokens of {patch} hold both picture and reference at the border"
        )
    whole = patches((*call.x[:-1], width + beside), patch)
    cells = torch.arange(whole.cells).view(whole.height, whole.width)
    columns = -(-width // patch)
    picture, right = cells[:, :columns].flatten(), cells[:, columns:].flatten()
    states = call.conditions.get("encoder_hidden_states_llama3")  # [B, layers, tokens, width]
    llama = 0 if states is None else 2 * states.shape[2]
    if not site.queries == site.keys == whole.cells + call.text + llama:
        return other_lengths(site, picture_and_reference=whole.cells, T5=call.text, Llama=llama)
    references = ()
    if beside:
        grid = TokenGrid(whole.height, whole.width - columns)
        references = (TokenGroup("reference latent 1", right, grid.cells, grid, "0"),)
    text = slice(whole.cells, whole.cells + call.text)
    return Sequence(site.layer, TokenGrid(whole.height, columns), picture, picture, text, references)


def _unet(site: CallSite, call: ModelCall) -> Sequence | Skip:
    """Self-attention (attn1) of ``BasicTransformerBlock`` (comfy/ldm/modules/attention.py)."""
    if site.role != "attn1":
        return Skip("attention of a U-Net that is not its self-attention")
    if site.grid is None or not site.queries == site.keys == site.grid.cells:
        return Skip(f"self-attention of {site.queries} to {site.keys} tokens, on a feature map of {site.grid}")
    return Sequence(site.layer, site.grid, slice(None), slice(None), slice(0, 0))


ORDERS: dict[str, Callable[[CallSite, ModelCall], Sequence | Skip]] = {
    "Flux": _flux,
    "Chroma": _chroma,
    "QwenImageTransformer2DModel": _qwen_image,
    "OmniGen2Transformer2DModel": _omnigen2,
    "HiDreamImageTransformer2DModel": _hidream,
    "NextDiT": _lumina,
    "OpenAISignatureMMDITWrapper": _sd3,
    "UNetModel": _unet,
}

"""U-Nets: Stable Diffusion 1.5, SDXL and their kin."""

from collections.abc import Iterator

import torch

from ..blocks import Block, ForeignModule, Part, inner
from ..callers import one_of, patches_of_packs
from ..located import CallSite, ModelCall, Skip
from .base import Sequence, TokenOrder


class UNet(TokenOrder):
    """Self-attention (attn1) of ``BasicTransformerBlock`` (comfy/ldm/modules/attention.py)."""

    family = "UNetModel"

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        if site.role != "attn1":
            return Skip("attention of a U-Net that is not its self-attention", absent=site.role == "attn2")
        if site.grid is None or not site.queries == site.keys == site.grid.cells:
            return Skip(why_other_tokens(site, call))
        return Sequence(site.layer, site.grid, slice(None), slice(None), slice(0, 0))

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        """Named as ComfyUI names them in ``block`` and ``block_index``."""
        middle = () if denoiser.middle_block is None else (denoiser.middle_block,)
        stages = (("input", denoiser.input_blocks), ("middle", middle), ("output", denoiser.output_blocks))
        for kind, containers in stages:
            for number, container in enumerate(containers):
                for transformer in container.children():
                    for stack, name in (("transformer_blocks", kind), ("time_stack", f"time {kind}")):
                        blocks = getattr(transformer, stack, None)
                        if isinstance(blocks, torch.nn.ModuleList):  # a video's ResBlock has one of another kind
                            for index, block in enumerate(blocks):
                                yield _block((kind, number, index), name, block)


def why_other_tokens(site: CallSite, call: ModelCall) -> str:
    """Why the tokens of a self-attention call are not the cells of the feature map."""
    lengths = f"{site.queries} queries and {site.keys} keys on a feature map of {site.grid} cells"
    changing = patches_of_packs(call.options, "attn1_patch") if site.changed else []
    if changing:
        return (
            f"self-attention that {one_of(changing)} changed, to {lengths}: which of the cells these are is not known"
        )
    return f"self-attention of {lengths}"


def _block(place: tuple[str, int, int], name: str, module: ForeignModule) -> Block:
    _, number, index = place
    module = inner(module, "attn1")
    parts = tuple(
        Part(role, getattr(module, role), replaced=((role, place), (role, place[:2])))
        for role in ("attn1", "attn2")
        if getattr(module, role, None) is not None
    )
    return Block((f"{name} {number}.{index}",), module, parts, announced=True)

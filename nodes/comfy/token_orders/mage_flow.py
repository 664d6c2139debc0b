"""Mage-Flow."""

from ..located import CallSite, ModelCall, Skip
from .base import Sequence, text_first
from .qwen_image import QwenImage


class MageFlow(QwenImage):
    """``text|picture|references``, in blocks of Qwen-Image's (``MageFlowTransformer2DModel._forward``).

    comfy/ldm/mage_flow/model.py: one token for a cell.
    """

    family = "MageFlowTransformer2DModel"

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        return text_first(site, call, call.denoiser.patch_size, call.conditions.get("ref_latents"))

"""Mage-Flow."""

from .qwen_image import QwenImage


class MageFlow(QwenImage):
    """``text|picture|references``, in blocks of Qwen-Image's (``MageFlowTransformer2DModel._forward``).

    comfy/ldm/mage_flow/model.py: one token for a cell.
    """

    family = "MageFlowTransformer2DModel"

"""One file for each way of conditioning on a reference; here they are listed."""

from .base import CallSite, Chunk, ModelCall, Probe, Regions, Skip, Source
from .canvas_regions import CanvasRegions
from .cross_attention import CrossAttention
from .image_cross_attention import ImageCrossAttention
from .ip_adapter import IPAdapter
from .reference_frames import ReferenceFrames
from .reference_latents import ReferenceLatents
from .reference_only import ReferenceOnly
from .sequences import ORDERS
from .style_tokens import StyleTokens
from .uso_style import UsoStyle
from .video_sequences import hunyuan_video, wan
from .vision_tokens import VisionTokens

ORDERS |= {"WanModel": wan, "HunyuanVideo": hunyuan_video}

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        ReferenceOnly(),  # before what else knows of a U-Net: its reasons to skip are the better ones
        CanvasRegions(),
        CrossAttention(),
        ReferenceLatents(),
        StyleTokens(),
        IPAdapter(),
        UsoStyle(),
        ImageCrossAttention(),
        ReferenceFrames(),
        VisionTokens(),
    )
}

__all__ = ["SOURCES", "CallSite", "Chunk", "ModelCall", "Probe", "Regions", "Skip", "Source"]

"""One file for each way of conditioning on a reference; here they are listed."""

from .base import CallSite, Chunk, ModelCall, Probe, Regions, Skip, Source
from .cross_attention import CrossAttention
from .ip_adapter import IPAdapter
from .reference_latents import ReferenceLatents
from .reference_only import ReferenceOnly
from .uso_style import UsoStyle

SOURCES: dict[str, Source] = {
    source.name: source for source in (ReferenceOnly(), CrossAttention(), ReferenceLatents(), IPAdapter(), UsoStyle())
}

__all__ = ["SOURCES", "CallSite", "Chunk", "ModelCall", "Probe", "Regions", "Skip", "Source"]

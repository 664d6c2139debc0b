"""One file for each way of conditioning on a reference; here they are listed."""

from .base import CallSite, Chunk, ModelCall, Probe, Regions, Skip, Source
from .cross_attention import CrossAttention
from .reference_latents import ReferenceLatents

SOURCES: dict[str, Source] = {source.name: source for source in (CrossAttention(), ReferenceLatents())}

__all__ = ["SOURCES", "CallSite", "Chunk", "ModelCall", "Probe", "Regions", "Skip", "Source"]

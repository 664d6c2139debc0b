"""One file for each way of conditioning on a reference; here they are listed."""

from .base import CallSite, Chunk, Probe, Skip, Source
from .cross_attention import CrossAttention

SOURCES: dict[str, Source] = {source.name: source for source in (CrossAttention(),)}

__all__ = ["SOURCES", "CallSite", "Chunk", "Probe", "Skip", "Source"]

"""One file for each way of conditioning on a reference; here they are listed."""

from .base import Mechanism
from .canvas_regions import CanvasRegions
from .cross_attention import CrossAttention
from .flux_adapters import FluxAdapters, UnchosenFluxAdapters
from .image_cross_attention import ImageCrossAttention
from .images_in_text import ImagesInText
from .ip_adapter import IPAdapter, UnchosenAdapters
from .reference_control import ReferenceControl
from .reference_frames import ReferenceFrames
from .reference_latents import ReferenceLatents
from .reference_only import ReferenceOnly
from .style_tokens import StyleTokens
from .uso_style import UsoStyle
from .vision_tokens import VisionTokens

LISTED: tuple[Mechanism, ...] = (
    ReferenceOnly(),
    ReferenceControl(),
    CanvasRegions(),
    CrossAttention(),
    ReferenceLatents(),
    ImagesInText(),
    StyleTokens(),
    IPAdapter(),
    FluxAdapters(),
    UsoStyle(),
    ImageCrossAttention(),
    ReferenceFrames(),
    VisionTokens(),
)
MECHANISMS = {mechanism.name: mechanism for mechanism in sorted(LISTED, key=lambda mechanism: -mechanism.priority)}


def chosen(name: str) -> list[Mechanism]:
    """All mechanisms where ``name`` is 'auto', else the one of that name, with what it needs to see its attention."""
    own = [mechanism for mechanism in MECHANISMS.values() if name in ("auto", mechanism.name)]
    if name == CrossAttention.name:
        own.append(UnchosenAdapters())
    return own if name in ("auto", FluxAdapters.name) else [*own, UnchosenFluxAdapters()]


__all__ = ["MECHANISMS", "Mechanism", "chosen"]

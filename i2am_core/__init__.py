"""I2AM: where a reference image acts on a generated picture, read from attention.

Works on any queries and keys, without ComfyUI. Method: Park & Jang, "I2AM: Interpreting Image-to-Image
Latent Diffusion Models via Bi-Attribution Maps", ICLR 2025 (arXiv 2407.12331).
"""

from .attention.marginals import Logits, Marginals, Positions, attribute, split_heads
from .attribution import Attribution, Layer, LayerMaps, Reference
from .errors import AttributionError
from .kinds import MapKind
from .reading.levels import Maps, maps
from .reading.metrics import imacs, min_max, share_inside
from .recording.recorder import Place, Recorder, Verdict
from .selection import Selection
from .tokens import TokenGrid, TokenGroup, span

__all__ = [
    "Attribution",
    "AttributionError",
    "Layer",
    "LayerMaps",
    "Logits",
    "MapKind",
    "Maps",
    "Marginals",
    "Place",
    "Positions",
    "Recorder",
    "Reference",
    "Selection",
    "TokenGrid",
    "TokenGroup",
    "Verdict",
    "attribute",
    "imacs",
    "maps",
    "min_max",
    "share_inside",
    "span",
    "split_heads",
]

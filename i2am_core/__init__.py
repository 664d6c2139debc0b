"""I2AM: where a reference image acts on a generated picture, read from attention.

Works on any queries and keys, without ComfyUI. Method: Park & Jang, "I2AM: Interpreting Image-to-Image
Latent Diffusion Models via Bi-Attribution Maps", ICLR 2025 (arXiv 2407.12331).
"""

from .attention import Marginals, attribute, split_heads
from .attribution import Attribution, Layer, LayerMaps, Reference
from .levels import Maps, maps
from .metrics import imacs, min_max, share_inside
from .recorder import Recorder
from .tokens import TokenGrid, TokenGroup, span

__all__ = [
    "Attribution",
    "Layer",
    "LayerMaps",
    "Maps",
    "Marginals",
    "Recorder",
    "Reference",
    "TokenGrid",
    "TokenGroup",
    "attribute",
    "imacs",
    "maps",
    "min_max",
    "share_inside",
    "span",
    "split_heads",
]

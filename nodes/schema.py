"""The schema of a node, for every version of ComfyUI that the pack runs on; and the types that nodes hand each other.

``io.Schema`` raises on a field that the installed ComfyUI does not know yet, and a single bad schema makes ComfyUI
refuse the whole pack. So such fields are left out.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

CATEGORY = "I2AM"
SEARCH_ALIASES = ["attention map", "attribution", "heatmap", "reference image", "IPAdapter", "DAAM", "I2AM"]

CaptureHandle = io.Custom("I2AM_CAPTURE")
AttributionHandle = io.Custom("I2AM_ATTRIBUTION")

# What ComfyUI's own inputs hand to ``execute``; an IMAGE is a tensor [n, H, W, C] in [0, 1], a MASK [n, H, W].
Conditioning = list[list[Any]]  # of each entry its tokens [B, N, C] and a dictionary
Latent = Mapping[str, Any]  # "samples" [B, C, H, W], of a video [B, C, T, H, W], and what else ComfyUI keeps there

_FIELDS = {field.name for field in dataclasses.fields(io.Schema)}


def schema(**fields: Any) -> io.Schema:
    """An ``io.Schema`` of these fields, in the menu and the search of all our nodes unless the fields say otherwise."""
    fields.setdefault("category", CATEGORY)
    fields.setdefault("search_aliases", SEARCH_ALIASES)
    return io.Schema(**{name: value for name, value in fields.items() if name in _FIELDS})

"""ComfyUI's node schema, without the fields that this host does not know yet.

``io.Schema`` raises on a field that is newer than the host, and one bad schema loses the whole pack.
"""

import dataclasses
from typing import Any

from comfy_api.latest import io

CATEGORY = "I2AM"
SEARCH_ALIASES = ["attention map", "attribution", "heatmap", "reference image", "IPAdapter", "DAAM", "I2AM"]

CaptureHandle = io.Custom("I2AM_CAPTURE")
AttributionHandle = io.Custom("I2AM_ATTRIBUTION")

_FIELDS = {field.name for field in dataclasses.fields(io.Schema)}


def schema(**fields: Any) -> io.Schema:
    fields.setdefault("category", CATEGORY)
    fields.setdefault("search_aliases", SEARCH_ALIASES)
    return io.Schema(**{name: value for name, value in fields.items() if name in _FIELDS})

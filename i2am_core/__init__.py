"""I2AM: where a reference image acts on a generated picture, read from attention.

Works on any queries and keys, without ComfyUI. Method: Park & Jang, "I2AM: Interpreting Image-to-Image
Latent Diffusion Models via Bi-Attribution Maps", ICLR 2025 (arXiv 2407.12331).

All public names are here. Each is imported from its module when it is first used, so that importing the package is
fast and needs torch and numpy only: files need safetensors, colormaps and contact sheets need matplotlib.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import errors

if TYPE_CHECKING:
    from .attention.intercept import Interceptor
    from .attention.marginals import Logits, Marginals, Positions, attribute, split_heads
    from .attention.rollout import Resampled, patch_grid, resample, rollout, spread
    from .attribution import Attribution, Layer, LayerMaps, Reference
    from .errors import AttributionError
    from .files import SUFFIX, load, save
    from .kinds import DIRECTIONS, NORMALIZATIONS, Direction, MapKind, Normalization
    from .reading.aggregate import resize
    from .reading.levels import LEVELS, Level, Maps, maps
    from .reading.metrics import concentration, imacs, min_max, share_inside
    from .reading.specific import SpecificMap, specific
    from .recording.recorder import PAIR_SHARE, Place, Recorder, Verdict
    from .regions import cells_of
    from .selection import SCOPES, Selection
    from .showing.render import COLORMAPS, Scale, color_table, colorize, heat, overlay, stretch
    from .showing.report import Row, attribution_sheet, contact_sheet
    from .showing.view import View, sheets, view
    from .tokens import Index, TokenGrid, TokenGroup, span

_NAMES = {  # by module; the imports above say the same to type checkers, and a test compares them
    "attention.intercept": "Interceptor",
    "attention.marginals": "Logits Marginals Positions attribute split_heads",
    "attention.rollout": "Resampled patch_grid resample rollout spread",
    "attribution": "Attribution Layer LayerMaps Reference",
    "errors": "AttributionError",
    "files": "SUFFIX load save",
    "kinds": "DIRECTIONS NORMALIZATIONS Direction MapKind Normalization",
    "reading.aggregate": "resize",
    "reading.levels": "LEVELS Level Maps maps",
    "reading.metrics": "concentration imacs min_max share_inside",
    "reading.specific": "SpecificMap specific",
    "recording.recorder": "PAIR_SHARE Place Recorder Verdict",
    "regions": "cells_of",
    "selection": "SCOPES Selection",
    "showing.render": "COLORMAPS Scale color_table colorize heat overlay stretch",
    "showing.report": "Row attribution_sheet contact_sheet",
    "showing.view": "View sheets view",
    "tokens": "Index TokenGrid TokenGroup span",
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "COLORMAPS",
    "DIRECTIONS",
    "LEVELS",
    "NORMALIZATIONS",
    "PAIR_SHARE",
    "SCOPES",
    "SUFFIX",
    "Attribution",
    "AttributionError",
    "Direction",
    "Index",
    "Interceptor",
    "Layer",
    "LayerMaps",
    "Level",
    "Logits",
    "MapKind",
    "Maps",
    "Marginals",
    "Normalization",
    "Place",
    "Positions",
    "Recorder",
    "Reference",
    "Resampled",
    "Row",
    "Scale",
    "Selection",
    "SpecificMap",
    "TokenGrid",
    "TokenGroup",
    "Verdict",
    "View",
    "attribute",
    "attribution_sheet",
    "cells_of",
    "color_table",
    "colorize",
    "concentration",
    "contact_sheet",
    "errors",
    "heat",
    "imacs",
    "load",
    "maps",
    "min_max",
    "overlay",
    "patch_grid",
    "resample",
    "resize",
    "rollout",
    "save",
    "share_inside",
    "sheets",
    "span",
    "specific",
    "split_heads",
    "spread",
    "stretch",
    "view",
]

if not TYPE_CHECKING:  # a type checker would take every misspelt name for one that this function knows

    def __getattr__(name: str) -> Any:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
        globals()[name] = value  # from now on it is an attribute, and this function is not called
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

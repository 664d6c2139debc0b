"""I2AM: where a reference image acts on a generated picture, read from attention.

Works on any queries and keys, without ComfyUI. Method: Park & Jang, "I2AM: Interpreting Image-to-Image
Latent Diffusion Models via Bi-Attribution Maps", ICLR 2025 (arXiv 2407.12331).

All public names are here. Importing them needs torch and numpy only: safetensors (files) and matplotlib (colormaps,
contact sheets) are imported when they are used.
"""

from . import errors
from .attention.intercept import Interceptor
from .attention.marginals import Logits, Marginals, Positions, attribute, share_of, split_heads
from .attention.rollout import Resampled, patch_grid, resample, rollout, spread
from .attribution import ALONE, SHARE_OWNERS, Attribution, Layer, LayerMaps, Reference, ShareOwner
from .effect import (
    CUTS,
    PARTS,
    ROUTES,
    Certainty,
    Cut,
    Effects,
    Owner,
    RegionEffects,
    Removal,
    Route,
    effect_of,
    owner_names,
    region_grid,
    regions_of,
)
from .errors import AttributionError
from .files import SUFFIX, load, save, save_new
from .findings.compare import COMPARED_SENTENCES, Compared, compare
from .findings.examine import SENTENCES, Examined, examine, finding_lines, run_lines
from .findings.finding import MARKS, Evidence, Finding, Suggestion
from .given import FATES, Fate, GivenReference
from .kinds import DIRECTIONS, NORMALIZATIONS, Direction, MapKind, Normalization
from .printing import printable
from .reading.aggregate import resize
from .reading.difference import MapsOfBoth, maps_of_both, measured_in_both
from .reading.effect import EffectInside, effect_inside, effect_maps, specific_effect
from .reading.items import of_items
from .reading.joined import join
from .reading.levels import LEVELS, Level, Maps, maps
from .reading.metrics import check_sides, concentration, has_competitors, imacs, is_flat, min_max, share_inside
from .reading.specific import SpecificMap, specific
from .recording.effects import RegionRemoval
from .recording.recorder import PAIR_SHARE, Place, Recorder, Verdict
from .regions import cells_of, inside_of, is_soft, level_of
from .selection import SCOPES, Selection, is_all
from .showing.compared_page import ComparedPage, compared_page, notice
from .showing.contact_sheet import Row, contact_sheet
from .showing.header import (
    FileHeader,
    Header,
    HeaderFinding,
    HeaderMadeBy,
    HeaderNode,
    HeaderPicture,
    HeaderPrediction,
    WithMadeBy,
    WithPredictions,
)
from .showing.page import Page, report_page
from .showing.render import COLORMAPS, Scale, color_table, colorize, diverging, heat, overlay, stretch
from .showing.report import attribution_sheet
from .showing.view import View, sheets, view
from .tokens import Index, TokenGrid, TokenGroup, span

__all__ = [
    "ALONE",
    "COLORMAPS",
    "COMPARED_SENTENCES",
    "CUTS",
    "DIRECTIONS",
    "FATES",
    "LEVELS",
    "MARKS",
    "NORMALIZATIONS",
    "PAIR_SHARE",
    "PARTS",
    "ROUTES",
    "SCOPES",
    "SENTENCES",
    "SHARE_OWNERS",
    "SUFFIX",
    "Attribution",
    "AttributionError",
    "Certainty",
    "Compared",
    "ComparedPage",
    "Cut",
    "Direction",
    "EffectInside",
    "Effects",
    "Evidence",
    "Examined",
    "Fate",
    "FileHeader",
    "Finding",
    "GivenReference",
    "Header",
    "HeaderFinding",
    "HeaderMadeBy",
    "HeaderNode",
    "HeaderPicture",
    "HeaderPrediction",
    "Index",
    "Interceptor",
    "Layer",
    "LayerMaps",
    "Level",
    "Logits",
    "MapKind",
    "Maps",
    "MapsOfBoth",
    "Marginals",
    "Normalization",
    "Owner",
    "Page",
    "Place",
    "Positions",
    "Recorder",
    "Reference",
    "RegionEffects",
    "RegionRemoval",
    "Removal",
    "Resampled",
    "Route",
    "Row",
    "Scale",
    "Selection",
    "ShareOwner",
    "SpecificMap",
    "Suggestion",
    "TokenGrid",
    "TokenGroup",
    "Verdict",
    "View",
    "WithMadeBy",
    "WithPredictions",
    "attribute",
    "attribution_sheet",
    "cells_of",
    "check_sides",
    "color_table",
    "colorize",
    "compare",
    "compared_page",
    "concentration",
    "contact_sheet",
    "diverging",
    "effect_inside",
    "effect_maps",
    "effect_of",
    "errors",
    "examine",
    "finding_lines",
    "has_competitors",
    "heat",
    "imacs",
    "inside_of",
    "is_all",
    "is_flat",
    "is_soft",
    "join",
    "level_of",
    "load",
    "maps",
    "maps_of_both",
    "measured_in_both",
    "min_max",
    "notice",
    "of_items",
    "overlay",
    "owner_names",
    "patch_grid",
    "printable",
    "region_grid",
    "regions_of",
    "report_page",
    "resample",
    "resize",
    "rollout",
    "run_lines",
    "save",
    "save_new",
    "share_inside",
    "share_of",
    "sheets",
    "span",
    "specific",
    "specific_effect",
    "split_heads",
    "spread",
    "stretch",
    "view",
]

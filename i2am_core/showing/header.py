"""The header of the viewer's file: JSON that says what its maps are of.

Both sides are checked against these types: ``view.py`` and the node that write it, and the page that reads it, by way
of ``web/viewer/header.d.ts``, which ``scripts/header_types.py`` writes from here. Docstrings go there too.
"""

from typing import Literal, TypedDict

from ..effect import Certainty, Cut, Owner, Route
from ..findings.finding import Shows, Value, Weight
from ..kinds import Direction

Measure = Literal["share", "inside", "concentration"]
EffectMeasure = Literal["strength", "everywhere", "inside", "floor"]


class HeaderItem(TypedDict):
    """One picture of the batch. ``scope`` is the part of it that the maps on references are made for."""

    scope: Literal["whole image", "inpainting mask"]


class HeaderLayer(TypedDict):
    """A layer. ``grid`` is ``[height, width]``, of each of the ``frames``."""

    name: str
    grid: tuple[int, int]
    frames: int
    heads: int


class HeaderReference(TypedDict):
    """A reference. ``grid`` is ``[height, width]``, or None if its tokens have no place in its image.

    ``layers`` are the numbers of those that read it; ``heads`` are ``[heads, layers that have so many]``;
    ``pairs_captured`` are the layers whose pair maps the run recorded, in this file or not.
    """

    name: str
    tokens: int
    grid: tuple[int, int] | None
    approximate: bool
    layers: list[int]
    heads: list[tuple[int, int]]
    pairs_captured: list[int]


class HeaderEffect(TypedDict):
    """The effect of what was taken away by one route, in ``steps``.

    ``certainty`` is, for each item and in its scope, that of the mean of all steps and of each of them.
    """

    owner: Owner
    route: Route
    steps: list[int]
    certainty: list[list[Certainty]]


class HeaderRegions(TypedDict):
    """The effects of the regions of a reference, in one ``step``.

    ``grid`` is ``[rows, columns]`` of regions; ``in_file`` says whether the map of each on the picture is in this file.
    """

    reference: int
    cut: Cut
    route: Route
    step: int
    grid: tuple[int, int]
    in_file: bool


class HeaderEffects(TypedDict):
    """What was measured of effects. ``measures`` are the names of the rows of the tensors of measures.

    ``unmeasured`` says in words why for what was not measured.
    """

    maps: list[HeaderEffect]
    regions: list[HeaderRegions]
    measures: list[EffectMeasure]
    unmeasured: dict[str, str]


class WithEffects(TypedDict, total=False):
    """What is there only where effects were measured."""

    effects: HeaderEffects


class WithAccount(TypedDict, total=False):
    """What files of the first versions do not have."""

    missed_calls: int
    all_observed: bool


class HeaderVideo(TypedDict):
    """The single frames of a video that are in the file: how many, and of which layers beside the mean of all."""

    frames: int
    layers: list[int]


class WithVideo(TypedDict, total=False):
    """What is there only of videos whose layers all have as many frames."""

    video: HeaderVideo


class Header(WithEffects, WithAccount, WithVideo):
    """What ``view`` says of its maps.

    ``sigmas`` are one more than there are steps. ``steps`` and ``joint`` are groups of steps, ``[first, one after the
    last]``: those that maps resolve, and those in which heads are resolved, if ``heads`` are at all.
    ``pairs`` are, for ``<item>/<reference>``, the layers whose pair maps are in this file. ``skipped`` counts attention
    calls by the reason why they were not captured. ``effects`` are there only where they were measured.
    Of the skipped calls, ``missed_calls`` may read a reference; ``all_observed`` says that none may, and is False
    where that is not known. ``video`` is there only where single frames are in the file.
    """

    version: int
    sigmas: tuple[float, ...]
    steps: list[tuple[int, int]]
    joint: list[tuple[int, int]]
    heads: bool
    items: list[HeaderItem]
    grid: tuple[int, int]
    frames: int
    layers: list[HeaderLayer]
    references: list[HeaderReference]
    pairs: dict[str, list[int]]
    measures: list[Measure]
    mechanism: str
    branch: str
    captured_calls: int
    skipped: dict[str, int]
    notes: list[str]
    summary: str


class HeaderPicture(TypedDict):
    """A picture, and the heat over it. ``name`` is that of the tensor that holds it as PNG, or None without a picture.

    ``canvas`` is ``[height, width]`` of the heat in px; ``note`` says what a person should know of the picture.
    """

    name: str | None
    canvas: tuple[int, int]
    note: str


class HeaderPictures(TypedDict):
    """The pictures: ``generated`` by item, ``reference`` by reference and item."""

    generated: list[HeaderPicture]
    reference: list[list[HeaderPicture]]


class HeaderNode(TypedDict):
    """One node of a workflow: its class, and its inputs. A link is ``[node, number of the output]``."""

    class_type: str
    inputs: dict[str, object]


class HeaderMadeBy(TypedDict):
    """What the file was made by: the node that wrote it, and all ``nodes`` that it depends on, by their ids."""

    last: str
    nodes: dict[str, HeaderNode]


class WithMadeBy(TypedDict, total=False):
    """What is there only where it is known: by which settings the file was made."""

    made_by: HeaderMadeBy


class HeaderEvidence(TypedDict):
    """What proves a finding. ``steps`` are those of the map, none for all; ``owner`` is whose effect, None for none."""

    shows: Shows
    direction: Direction
    owner: Owner | None
    steps: list[int]
    reference: int


class HeaderTry(TypedDict):
    """What to try, as a part of a sentence; ``measures``: it changes nothing of the picture."""

    sentence: str
    measures: bool


class HeaderFinding(TypedDict):
    """A finding of an ``item``, or ``of_run`` of the whole run, with its ``sentence`` in English.

    ``key`` is the name of its sentence, which ``values`` fill. ``of_thumb``: its threshold is from one small model.
    """

    item: int
    key: str
    weight: Weight
    sentence: str
    values: dict[str, Value]
    of_thumb: bool
    of_run: bool
    tries: list[HeaderTry]
    evidence: HeaderEvidence


class WithFindings(TypedDict, total=False):
    """What is there only where the rules of findings were applied."""

    findings: list[HeaderFinding]


class HeaderPrediction(TypedDict):
    """What the model predicted in one ``step`` of a picture, with what ``owner`` names and without it.

    ``picture_with`` and ``picture_without`` are the names of the tensors that hold them as PNG.
    """

    item: int
    owner: Owner
    step: int
    picture_with: str
    picture_without: str


class WithPredictions(TypedDict, total=False):
    """What is there only where predictions were decoded."""

    predictions: list[HeaderPrediction]


class FileHeader(Header, WithMadeBy, WithFindings, WithPredictions):
    """The header of the whole file: the view's header, and what the node adds to the file.

    ``colormaps`` are the names of the rows of the tensor ``colormaps``; ``masked`` are the names of the masks' tensors.
    ``made_by`` are the settings that made the file, ``findings`` what is wrong or right, faults first. ``predictions``
    are there only where they were decoded.
    """

    pictures: HeaderPictures
    colormaps: list[str]
    masked: list[str]


TYPES = (
    *(HeaderItem, HeaderLayer, HeaderReference, HeaderEffect, HeaderRegions, HeaderEffects, HeaderVideo),
    *(Header, HeaderPicture, HeaderPictures, HeaderNode, HeaderMadeBy),
    *(HeaderEvidence, HeaderTry, HeaderFinding, HeaderPrediction, FileHeader),
)

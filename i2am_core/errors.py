"""The errors of the core: each has a type, fields that say what was got and what exists, and is one sentence.

The sentences name no program. A program that shows them to a person may word them itself, from the fields: the nodes
do so in ``nodes/wording.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .printing import printable

DETAIL = 300
"""How many letters of what a file says are in the sentence about it."""


class AttributionError(ValueError):
    """The base of every error that the core raises on purpose. ``str`` of it is one sentence."""


@dataclass(eq=False)
class UnknownReference(AttributionError):
    """There is no reference of this number; the run has ``count``."""

    reference: int
    count: int

    def __str__(self) -> str:
        return f"reference {self.reference} does not exist: this run has {self.count}, numbered from 0."


@dataclass(eq=False)
class UnknownItem(AttributionError):
    """There is no item (picture of the batch) of this number; the run has ``count``."""

    item: int
    count: int

    def __str__(self) -> str:
        return f"item {self.item} does not exist: this run made {self.count} picture(s), numbered from 0."


@dataclass(eq=False)
class Lacking(AttributionError):
    """A rule of findings cannot be applied to a run; ``what`` says what is lacking, as a part of a sentence."""

    what: str

    def __str__(self) -> str:
        return f"this cannot be examined: {self.what}."


@dataclass(eq=False)
class UnknownChoice(AttributionError):
    """``got`` is none of the ``known``; ``what`` says what it should be: a level, a scope, a kind of map."""

    what: str
    got: str
    known: Sequence[str]

    def __str__(self) -> str:
        return f"{self.what} '{self.got}' does not exist: choose one such as {', '.join(self.known)}."


@dataclass(eq=False)
class UnknownColormap(UnknownChoice):
    """matplotlib has no colormap of this name; ``known`` are some that it has."""

    def __str__(self) -> str:
        return f"matplotlib has no {self.what} '{self.got}': use one such as {', '.join(self.known)}."


@dataclass(eq=False)
class BadSelection(AttributionError):
    """``text`` cannot be read as a selection of the ``count`` things of an ``axis`` (a plural: "steps").

    ``problem`` says why. ``names`` are those of the things, where they have names.
    """

    axis: str
    text: str
    count: int
    problem: Literal["nothing", "backwards", "out of range", "unreadable"]
    names: Sequence[str] = ()

    def __str__(self) -> str:
        if self.problem == "nothing":
            return f"'{self.text}' selects no {self.axis}: write 'all', or numbers such as '0-4,10'."
        if self.problem == "backwards":
            low, _, high = (part.strip() for part in self.text.partition("-"))
            return f"'{self.text}' in the selection of {self.axis} runs backwards: write '{high}-{low}'."
        if self.problem == "out of range":
            numbered = f"there are {self.count} {self.axis}, numbered 0 to {self.count - 1}"
            return f"{numbered}: '{self.text}' is out of range."
        hint = f" or a name such as '{self.names[0]}'" if self.names else ""
        return (
            f"cannot read '{self.text}' in the selection of {self.axis}: write 'all', numbers such as '0-4,10'{hint}."
        )


@dataclass(eq=False)
class BadCount(AttributionError):
    """A number that must not be negative is; ``meaning`` says what 0 would mean."""

    what: str
    got: int
    meaning: str = ""

    def __str__(self) -> str:
        return f"{self.what} must be 0 ({self.meaning}) or more, got {self.got}."


@dataclass(eq=False)
class UnresolvedAxis(AttributionError):
    """Some steps or heads were selected which had been merged before.

    ``text`` is the selection, "" for the axis as a whole. ``groups`` are the steps that were merged, as they are typed
    in a selection. ``pairs`` says that the selection is of pair maps, which are always means over both. ``within`` says
    that heads are kept apart, but not in single steps, or not in single frames.
    """

    axis: Literal["steps", "heads"]
    text: str = ""
    groups: Sequence[str] = ()
    pairs: bool = False
    within: Literal["", "steps", "frames"] = ""

    def __str__(self) -> str:
        selected = f"{self.axis} '{self.text}'" if self.text else self.axis
        if self.pairs:
            return (
                f"pair maps are kept as means over steps and heads, so {selected} are not resolved here: select "
                "all of both. Layers can be chosen."
            )
        if self.within:
            return (
                f"{selected} are not resolved in single {self.within}: within its memory budget this attribution kept "
                f"each head as the mean of all {self.within}. Select all {self.within}, or all heads."
            )
        if self.axis == "steps":
            return (
                f"{selected} are not resolved: within its memory budget this attribution kept the groups "
                f"{', '.join(self.groups)}. Select whole groups."
            )
        return f"{selected} are not resolved in this attribution: only their mean fitted its memory budget."


@dataclass(eq=False)
class NoLayout(AttributionError):
    """The tokens of a reference have no place in its image, so that there is no map on it.

    ``part`` says that a part of the reference was selected, not a map on it.
    """

    reference: int
    name: str
    tokens: int
    part: bool = False

    def __str__(self) -> str:
        it = f"reference {self.reference} ('{self.name}')"
        if self.part:
            return f"{it} has no spatial layout: no part of it can be named."
        return f"{it} has {self.tokens} tokens without a spatial layout, so there is no map on it."


@dataclass(eq=False)
class NoMask(AttributionError):
    """The scope is the inpainting mask, and the run had none for this item."""

    item: int

    def __str__(self) -> str:
        return (
            f"this run had no inpainting mask for picture {self.item}, or an empty one, so scope 'inpainting mask' "
            "has nothing to show: use 'whole image'."
        )


@dataclass(eq=False)
class NothingCaptured(AttributionError):
    """Nothing was captured in the selected ``axis``. ``name`` is the reference's, None where all were selected."""

    axis: Literal["layers", "steps"]
    text: str
    reference: int | None = None
    name: str | None = None

    def __str__(self) -> str:
        if self.axis == "steps":
            return f"nothing was captured in the selected steps ({self.text}): select others."
        name = "any reference" if self.reference is None else f"reference {self.reference} ('{self.name}')"
        return f"no captured call of the selected layers reads {name}: select other layers."


@dataclass(eq=False)
class NoPairMaps(AttributionError):
    """The selected layers have no pair maps, or (``outside``) have them for no position of the region."""

    outside: bool = False

    def __str__(self) -> str:
        if self.outside:
            return "no pair maps were kept for this region: it lies outside the inpainting mask."
        return "no pair maps were kept for the selected layers."


@dataclass(eq=False)
class EmptyRegion(AttributionError):
    """The region of a specific reference map has no pixel."""

    def __str__(self) -> str:
        return "the region is empty: mark a part of the image."


@dataclass(eq=False)
class OneSidedMask(AttributionError):
    """A mask that is full, or else empty, so that it has no IMACS."""

    full: bool

    def __str__(self) -> str:
        return (
            f"the mask is {'full' if self.full else 'empty'}: IMACS compares the inside of a mask with its outside, "
            "so some of the picture must be in it and some not."
        )


@dataclass(eq=False)
class FlatMap(AttributionError):
    """A map that is the same everywhere but for rounding, so that it has no IMACS."""

    def __str__(self) -> str:
        return (
            "the map is flat: its values differ by no more than rounding, so that none of them is strong or weak, "
            "and there is nothing to score."
        )


@dataclass(eq=False)
class NoFrames(AttributionError):
    """Level 'frame' where there is one frame (``counts`` is ``[1]``), or where layers have different ``counts``."""

    direction: str
    counts: Sequence[int]

    def __str__(self) -> str:
        if len(self.counts) > 1:
            return "the selected layers have different numbers of frames: select layers that share one."
        what = "the picture" if self.direction == "r2g" else "the reference"
        return f"level 'frame' is for videos: {what} has a single frame, so choose another level."


@dataclass(eq=False)
class OnlyOnPicture(AttributionError):
    """Level 'reference' was requested of maps on a reference: it compares references on the picture."""

    def __str__(self) -> str:
        return "level 'reference' compares references on the picture that they act in, not maps on a reference."


@dataclass(eq=False)
class NoEffects(AttributionError):
    """Nothing was measured in this run of what references caused; ``reasons`` say why, where it was tried."""

    reasons: Sequence[str] = ()

    def __str__(self) -> str:
        why = f" ({'; '.join(self.reasons)})" if self.reasons else ""
        return f"no effect was measured in this run{why}: measure effects while it samples."


@dataclass(eq=False)
class NotMeasured(AttributionError):
    """The effect of this ``owner`` (a reference's number, or a word) was not measured by this ``route``.

    ``name`` is what a person calls it. ``reason`` says why, where that is known; ``measured`` what there is, in words.
    """

    owner: int | str
    name: str
    route: str = "everything"
    reason: str = ""
    measured: Sequence[str] = ()

    def __str__(self) -> str:
        way = ", by the picture's own positions alone," if self.route == "directly" else ""
        reason = f" ({self.reason})" if self.reason else ""
        return f"the effect of {self.name}{way} was not measured{reason}: there is that of {'; '.join(self.measured)}."


@dataclass(eq=False)
class NoEffectInSteps(AttributionError):
    """No effect of ``name`` was measured in the selected steps ``text``, but in the steps ``measured``."""

    text: str
    name: str
    measured: Sequence[int]

    def __str__(self) -> str:
        steps = ",".join(map(str, self.measured))
        return f"no effect of {self.name} was measured in the selected steps ({self.text}): select some of {steps}."


@dataclass(eq=False)
class NoRegions(AttributionError):
    """No effects of regions of ``name`` were measured in this way.

    ``requested`` is the way, "" for any. ``measured`` are those in which they were.
    """

    owner: int | str
    name: str
    requested: str = ""
    measured: Sequence[str] = ()

    def __str__(self) -> str:
        if self.measured:
            return (
                f"no effects of regions of {self.name} were measured in this way ({self.requested}): there are those "
                f"of regions {'; '.join(self.measured)}."
            )
        return f"no effects of regions of {self.name} were measured in this run: measure regions, too."


@dataclass(eq=False)
class NoEffectLevel(AttributionError):
    """Effects have no maps of this ``level``, or of some heads or layers alone; on a reference (``regions``), of none.

    Its effects of regions are measured in one step.
    """

    level: str
    regions: bool = False

    def __str__(self) -> str:
        if self.regions:
            return f"effects of regions have no level '{self.level}', since they are of one step: choose unified."
        return (
            f"effects have no heads or layers, so that there is no '{self.level}' to choose: use all heads and all "
            "layers, and level unified, time, reference or frame."
        )


@dataclass(eq=False)
class EffectTooSmall(AttributionError):
    """The effect of ``name`` is below ten times the noise floor, so that there is no map of it.

    ``strength`` and ``floor`` are root mean squares.
    """

    owner: int | str
    name: str
    strength: float
    floor: float

    def __str__(self) -> str:
        return (
            f"the effect of {self.name} is too small for a map: {self.strength:.2g}, where {self.floor:.2g} is the "
            "noise floor, of which it should be ten times."
        )


@dataclass(eq=False)
class NotOneRun(AttributionError):
    """Two runs that cannot be joined: in this ``problem`` the ``second`` does not go on where the ``first`` ended.

    For 'sigmas' they are where the first ended and the second began; for 'latent' and 'order' the pictures of which
    one began with the latent that the other began with, or with that of another picture. ``got`` says it in words.
    """

    problem: Literal["sigmas", "items", "grid", "branch", "latent", "order"]
    first: Any
    second: Any

    @property
    def got(self) -> str:
        return {
            "sigmas": f"one ended at sigma {self.first}, and the other began at {self.second}",
            "items": f"one made {self.first} picture(s), and the other {self.second}",
            "grid": f"one was on a latent of {self.first}, and the other on {self.second}",
            "branch": f"one captured the {self.first} conditioning, and the other the {self.second} one",
            "latent": "both began with the same latent, and not one with what the other had made",
            "order": f"picture {self.second} of one began with what picture {self.first} of the other had become",
        }[self.problem]

    def __str__(self) -> str:
        return f"these are not two parts of one run: {self.got}. Join runs of which one goes on where the other ended."


@dataclass(eq=False)
class BadAttention(AttributionError):
    """Queries, keys or groups of tokens that cannot be attributed; ``got`` is the shape or count in question."""

    problem: str
    got: Any = None

    def __str__(self) -> str:
        return self.problem


@dataclass(eq=False)
class BadFile(AttributionError):
    """A file ``name`` that is no attribution, or cannot be read; ``detail`` is the reason, or the format.

    It is 'not saved' where the attribution has what no file may have.
    """

    name: str
    problem: Literal[
        "missing", "no file", "unreadable", "too large", "damaged", "foreign", "newer", "invalid", "not saved"
    ]
    detail: str = ""

    def __str__(self) -> str:
        name, detail = printable(self.name, DETAIL), printable(self.detail, DETAIL).rstrip(".")
        return {
            "missing": f"there is no file {name}: choose a saved attribution.",
            "no file": f"{name} is a folder, a pipe or a device, and not a file: choose a saved attribution.",
            "unreadable": f"{name} cannot be read ({detail}): give it another name, or the right to read it.",
            "too large": f"{name} is too large ({detail}): save an attribution with a smaller memory budget.",
            "damaged": f"{name} is damaged or not a safetensors file ({detail}): save the attribution again.",
            "foreign": f"{name} is a safetensors file, but not an I2AM attribution: choose a saved attribution.",
            "newer": f"{name} was written by a newer I2AM ({detail}): update I2AM.",
            "invalid": f"{name} is no valid I2AM attribution ({detail}): save the attribution again.",
            "not saved": f"{name} was not saved, since nobody could load it ({detail}): sample again.",
        }[self.problem]


@dataclass(eq=False)
class Incomparable(AttributionError):
    """Two predictions, or the maps of two runs, that cannot be compared with each other, for this reason."""

    reason: str

    def __str__(self) -> str:
        return f"{self.reason}."


@dataclass(eq=False)
class InOneRun(AttributionError):
    """Of two runs that are compared, this one ('A' or 'B') raised the ``error``."""

    run: str
    error: ValueError

    def __str__(self) -> str:
        return f"in {self.run}, {self.error}"


@dataclass(eq=False)
class BadAdapter(AttributionError):
    """An image adapter whose tokens cannot be rolled out; ``got`` is its kind, or the shape or number that is wrong."""

    problem: str
    got: Any = None

    def __str__(self) -> str:
        return self.problem


@dataclass(eq=False)
class MissingPackage(AttributionError, ImportError):
    """A package that is only needed for ``purpose`` is not installed; the extra ``extra`` of i2am has it."""

    package: str
    extra: str
    purpose: str

    def __str__(self) -> str:
        return f"{self.purpose} needs {self.package}: pip install {self.package} (or i2am[{self.extra}])."

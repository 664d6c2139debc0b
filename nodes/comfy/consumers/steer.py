"""Steering: the columns of chosen references, or of parts of them, are weighed otherwise.

This is the consumer of I2AM Steer. It acts, so that it raises wherever it cannot: a picture that was to be changed and
was not would be a lie. What a change does to attention: ``i2am_core.attention.steering``.
"""

import re
import threading
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import NoReturn

import torch
from torch import Tensor

from ....i2am_core.attention.steering import WAYS, By, Change, Steering
from ....i2am_core.attribution import Layer, Reference
from ....i2am_core.recording.references import References
from ....i2am_core.regions import cells_of
from ....i2am_core.selection import Selection, parse_selection, selects
from ....i2am_core.tokens import TokenGrid, TokenGroup
from ..attention_call import AttentionCall
from ..callers import function_of
from ..located import Located, ModelCall, Skip
from ..tags import is_fingerprint
from .base import Consumer, LocatedIn

__all__ = ["NOT_STEERED", "THROUGH", "WAYS", "By", "Settings", "Steer"]

NOT_STEERED = "I2AM Steer cannot steer this run, and an unsteered picture would be a wrong one: {}"
COUPLES_ROWS = (
    "attention runs in {}, whose kernel mixes rows that are to be steered with others. Sample without it (sage and "
    "sparse attention)"
)
CACHED = (
    "the model did not run {} in a later step, as caches (EasyCache, TeaCache and their kin) and packs that leave "
    "blocks out do. Remove the cache"
)
NO_REFERENCE = (
    "I2AM Steer found no reference that reaches the model through its attention (mechanism '{}', {} conditioning): "
    "connect a reference, or choose another mechanism. Tokens of a style model need I2AM Tag Reference after the style "
    "node; on a canvas, choose 'canvas regions' and mark both regions."
)
NO_SUCH_REFERENCE = (
    "reference {} does not exist: I2AM Steer found {}. Write one of these numbers, or -1 for all. Tokens that were "
    "joined to a conditioning lose their tag: I2AM Tag Reference behind the node that joins them brings it back."
)
NO_PLACES = (
    "the tokens of reference {} ('{}') have no places in the image, so that no region of it can be steered: disconnect "
    "reference_region, or choose another reference"
)
OTHER_ASPECT = (
    "reference_region is {} wide and {} high, but reference {} ('{}') as the model sees it has {} tokens: another "
    "aspect. Crop or paint the mask as the model sees the reference, and choose its number in reference"
)
NOT_CALLED = (
    "I2AM Steer is set to the {0} conditioning, but the model is not run with it: ComfyUI leaves the negative one out "
    "where guidance is off (cfg 1). Choose another branch, or raise cfg."
)
THROUGH = ("everything", "directly")
ROW_COUPLING = re.compile(r"(?<![A-Za-z])sage|Sage|SAGE|[Ss]parse|[Ss]parge|[Rr]adial")  # of functions and modules


@dataclass(frozen=True)
class Settings:
    """What is set on I2AM Steer. Masks are ``[n, H, W]``, and None where nothing is marked."""

    strength: float
    by: By = "attention"
    reference: int = -1  # all
    reference_region: Tensor | None = None
    generated_region: Tensor | None = None
    through: str = "everything"
    branch: str = "both"
    selection: Selection = field(default_factory=Selection)  # of steps, layers and heads
    mechanism: str = "auto"

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of conditionings in ComfyUI's guiders. References are numbered as in the first."""
        return ("positive", "negative") if self.branch == "both" else (self.branch,)

    def __str__(self) -> str:
        what = "all references" if self.reference < 0 else f"reference {self.reference}"
        chosen = {"steps": self.selection.steps, "layers": self.selection.layers, "heads": self.selection.heads}
        parts = [
            f"{what}{', a region of it,' if self.reference_region is not None else ''} counts {self.strength:g} times "
            f"by {self.by}",
            "in a region of the picture" if self.generated_region is not None else f"through {self.through}",
            f"{self.branch} branch{'es' if self.branch == 'both' else ''}",
            *(f"{name} {text}" for name, text in chosen.items() if text != "all"),
        ]
        return ", ".join(parts)


class Steer(Consumer):
    """In one run, with these ``steps`` of its schedule chosen."""

    acts = True

    def __init__(self, settings: Settings, steps: Set[int]) -> None:
        self.settings, self.steps = settings, steps
        self.note_of_changes = f"steered by I2AM Steer: {settings}"
        self._references = {branch: References() for branch in settings.branches}
        self._layers: dict[Layer, int] = {}  # numbered as summaries do, by the first call
        self._ran: dict[tuple, Set[str]] = {}  # layers that ran, by the conditionings of a call of the denoiser
        self._seen_branches: set[str] = set()
        self._without = 0  # evaluations without the first branch
        self._checked = False
        self._lock = threading.RLock()

    # What the engine notifies of

    def given(self, references: Sequence[Reference], branch: str) -> None:
        with self._lock:
            self._references[branch].give(references)

    def before(self, call: AttentionCall, located: Sequence[LocatedIn]) -> AttentionCall | None:
        with self._lock:
            numbers = {one.chunk.rows.start: self._numbers(one) for one in located}
            chosen = {one.chunk.rows.start: self._chooses(layer) for one in located for layer in [self._layer_of(one)]}
        self._check(call, located)
        if call.model_call.step not in self.steps:
            return None
        key = (id(self), id(call.steering), call.shape, *(_signature(one, chosen, numbers) for one in located))
        steering: Steering | None = call.model_call.once(key, lambda: self._steering(call, located, chosen, numbers))
        return None if steering is None else call.steered(steering)

    def called(self, call: ModelCall, layers: Set[str]) -> None:
        if call.perturbed:  # guidance leaves blocks out on purpose
            return
        ran = self._ran.setdefault(tuple(call.options["uuids"]), frozenset(layers))
        if missing := sorted(ran - layers):
            _refuse(CACHED.format(missing[0] if len(missing) == 1 else f"{len(missing)} of its blocks"))

    def evaluated(self, branches: Set[str]) -> None:
        with self._lock:
            self._seen_branches |= branches
            first = self.settings.branches[0]
            if first not in self._seen_branches:
                self._without += 1
                if self._without > 1:
                    raise ValueError(NOT_CALLED.format(first))
            elif not self._checked:
                self._checked = True
                self._check_settings()

    def finished(self) -> None:
        """At the end of the run. Raises ValueError where there was nothing to steer."""
        if (first := self.settings.branches[0]) not in self._seen_branches:
            raise ValueError(NOT_CALLED.format(first))

    def skip(self, skip: Skip, calls: int = 1) -> None:
        if calls and not skip.absent:
            _refuse(skip.reason)

    def retract(self, layers: Sequence[str], skip: Skip) -> None:
        _refuse(skip.reason)

    # What is chosen

    def _numbers(self, one: LocatedIn) -> tuple[int, ...]:
        """The number of each located reference, among all that are known of its branch."""
        groups = [group for match in one.by_mechanism.values() for group in match.references]
        return tuple(self._references[one.chunk.branch].number(Reference.of(group)) for group in groups)

    def _layer_of(self, one: LocatedIn) -> Layer:
        layer = next(iter(one.by_mechanism.values())).layer
        return Layer(layer.name, one.chunk.placement.on(layer.grid).grid, layer.heads)

    def _chooses(self, layer: Layer) -> bool:
        number = self._layers.setdefault(layer, len(self._layers))
        return selects(self.settings.selection.layers, number, layer.name)

    def _is_chosen(self, number: int, branch: str) -> bool:
        return self.settings.reference < 0 or self._chosen_number(branch) == number

    def _chosen_number(self, branch: str) -> int | None:
        """The chosen reference among those of a branch: as a person counts in the first branch, and the same image in
        the other, which may have another place there. An image that is in the other alone counts by its place.
        """
        wanted = self.settings.reference
        first, own = self._references[self.settings.branches[0]], self._references[branch]
        if own is not first and wanted < len(first.counted):
            number = _same_reference(first.known[first.counted[wanted]], own.known)
            if number is not None:
                return number
        in_place = own.counted[wanted] if wanted < len(own.counted) else None
        if own is first or in_place is None or _same_reference(own.known[in_place], first.known) is None:
            return in_place
        return None

    def _check_settings(self) -> None:
        """When all references and layers have been read once. Raises ValueError for what does not exist."""
        settings = self.settings
        by_branch = [[x.known[number] for number in x.counted] for x in self._references.values()]
        counted = next((references for references in by_branch if references), [])
        if not counted:
            raise ValueError(NO_REFERENCE.format(settings.mechanism, " and ".join(settings.branches)))
        if settings.reference >= max(map(len, by_branch)):
            there = ", ".join(f"{number} ('{reference.name}')" for number, reference in enumerate(counted))
            raise ValueError(NO_SUCH_REFERENCE.format(settings.reference, there))
        if self._layers:
            parse_selection(settings.selection.layers, len(self._layers), "layers", [x.name for x in self._layers])

    # What becomes of a call

    def _steering(
        self,
        call: AttentionCall,
        located: Sequence[LocatedIn],
        chosen: dict[int, bool],
        numbers: dict[int, tuple[int, ...]],
    ) -> Steering | None:
        """The changes that the call has, and ours; None where there is nothing to change."""
        changes = []
        for one in located:
            start = one.chunk.rows.start
            if chosen[start] and (change := self._change(call, one, numbers[start])) is not None:
                changes.append(change)
        return (call.steering or Steering(())).and_(changes) if changes else None

    def _change(self, call: AttentionCall, one: LocatedIn, numbers: Sequence[int]) -> Change | None:
        """Of the rows of one conditioning."""
        of_groups, left = [], list(numbers)
        for match in one.by_mechanism.values():
            here = [left.pop(0) for _ in match.references]
            of_groups += self._columns(match, here, one.chunk.branch, call.shape[3])
        positions = self._positions(call, one)
        if not of_groups or (positions is not None and not positions.any()):
            return None
        columns = torch.cat(of_groups).unique()
        heads = self._heads(next(iter(one.by_mechanism.values())).layer)
        settings = self.settings
        return Change(
            one.chunk.rows, columns, settings.strength, settings.by, positions, heads, self.note_of_changes
        ) if len(columns) else None  # fmt: skip

    def _columns(self, match: Located, numbers: Sequence[int], branch: str, keys: int) -> list[Tensor]:
        """The chosen columns of what one mechanism located."""
        chosen = [group for group, n in zip(match.references, numbers, strict=True) if self._is_chosen(n, branch)]
        if (region := self.settings.reference_region) is None:
            with_class_tokens = {id(x): x for group in chosen for x in _with_class_token(group, match.references)}
            columns = [match.columns(group.index, keys) for group in with_class_tokens.values()]
            return columns + [match.columns(match.placeless[x.name], keys) for x in chosen if x.name in match.placeless]
        columns = []
        for group in chosen:
            number = self._references[branch].counted.index(numbers[match.references.index(group)])
            if group.grid is not None:
                columns.append(match.columns(_tokens_in(region, group, group.grid, number, match), keys))
            elif not any(other.key == group.key and other.grid is not None for other in match.references):
                _refuse(NO_PLACES.format(number, group.name))
        return columns

    def _positions(self, call: AttentionCall, one: LocatedIn) -> Tensor | None:
        """The rows of tokens that are steered, ``[items or 1, N]``; None for all."""
        region = self.settings.generated_region
        if region is None and self.settings.through == "everything":
            return None
        match = next(iter(one.by_mechanism.values()))
        positions = torch.zeros(1, call.shape[2], dtype=torch.bool)
        positions[:, match.queries] = True
        if match.gain is not None:  # where it is 0 a row is not of the picture
            counts = match.gain.cpu() != 0
            positions = positions.repeat(len(counts), 1)
            positions[:, match.queries] &= counts
        if region is not None:
            placed = one.chunk.placement.on(match.layer.grid)
            inside = placed.here(cells_of(region, placed.grid))
            assert inside is not None
            positions = positions.repeat(max(1, len(inside) // len(positions)), 1)
            positions[:, match.queries] &= inside
        return None if positions.all() else positions

    def _heads(self, layer: Layer) -> Tensor | None:
        if self.settings.selection.all_heads:
            return None
        heads = torch.zeros(layer.heads, dtype=torch.bool)
        heads[self.settings.selection.head_numbers(layer.name, layer.heads)] = True
        return None if heads.all() else heads

    def _check(self, call: AttentionCall, located: Sequence[LocatedIn]) -> None:
        """Raises where what was located is not certain, or the kernel does not treat rows one by one."""
        for kernel in (call.arguments.override, call.arguments.function):
            if kernel is not None and ROW_COUPLING.search(name := str(function_of(kernel))):
                _refuse(COUPLES_ROWS.format(name))
        for match in (match for one in located for match in one.by_mechanism.values()):
            if match.guessed:
                _refuse(match.note)
            for verdict in match.verdicts:
                if not bool(verdict.holds):
                    _refuse(verdict.otherwise)


def _signature(one: LocatedIn, chosen: dict[int, bool], numbers: dict[int, tuple[int, ...]]) -> tuple:
    """What the change of a chunk depends on, in one call of the denoiser: layers of equal ones are steered alike."""
    start = one.chunk.rows.start
    groups = [group for match in one.by_mechanism.values() for group in match.references]
    layer = next(iter(one.by_mechanism.values())).layer
    return (start, chosen[start], numbers[start], layer.grid, tuple((x.name, x.key, x.count) for x in groups))


def _same_reference(reference: Reference, others: Sequence[Reference]) -> int | None:
    """The number of the same one among ``others``, by its name and key, or by what it is made from alone."""
    for number, other in enumerate(others):
        if (other.name, other.key) == (reference.name, reference.key):
            return number
    return next((n for n, x in enumerate(others) if x.key == reference.key and is_fingerprint(x.key)), None)


def _with_class_token(group: TokenGroup, groups: Sequence[TokenGroup]) -> list[TokenGroup]:
    """The group, and that of its class token, which has no place in the image."""
    beside = [x for x in groups if group.grid is not None and x.grid is None and x.key and x.key == group.key]
    return [group, *beside]


def _tokens_in(region: Tensor, group: TokenGroup, grid: TokenGrid, number: int, match: Located) -> Tensor:
    """The columns of a reference's tokens in a region ``[1, H, W]`` that is painted on it."""
    height, width = region.shape[-2:]
    if abs(grid.width - grid.height * width / height) > 1 and abs(grid.height - grid.width * height / width) > 1:
        _refuse(OTHER_ASPECT.format(width, height, number, group.name, f"{grid.width} by {grid.height}"))
    inside = cells_of(region[0], grid)
    inside = inside if group.cells is None else inside[group.cells]
    return torch.arange(match.keys)[group.index][inside]


def _refuse(reason: str) -> NoReturn:
    raise ValueError(NOT_STEERED.format(reason.rstrip(".") + "."))

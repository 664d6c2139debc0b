"""What I2AM Steer is set to, and what that chooses in a run: columns, rows, heads and layers of attention calls.

References and layers are numbered as the summary of I2AM Collect numbers them, while calls read them. Nothing is chosen
that does not exist: ``check`` says so, when all has been read once.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from ...i2am_core.attention.steering import By as ChangedBy
from ...i2am_core.attention.steering import Change
from ...i2am_core.attribution import Layer, Reference
from ...i2am_core.given import GivenReference
from ...i2am_core.printing import listed
from ...i2am_core.recording.references import References
from ...i2am_core.regions import has_aspect_of
from ...i2am_core.selection import Selection, parse_selection, selects
from ...i2am_core.tokens import TokenGroup
from .attention_call import AttentionCall
from .chosen_tokens import columns_in, columns_of, is_alone, rows_of_picture
from .consumers.base import LocatedIn
from .given_in_words import advice_of, sentences_of
from .located import Located
from .refusal import named, refuse
from .tags import is_fingerprint

By = Literal["attention", "output", "guidance"]
WAYS: tuple[By, ...] = get_args(By)
THROUGH = ("everything", "directly")

NO_REFERENCE = (
    "I2AM Steer found no reference that reaches the model through its attention (mechanism '{}', {} conditioning)"
)
CONNECT = (
    "Connect a reference, or choose another mechanism. Tokens of a style model need I2AM Tag Reference after the style "
    "node; on a canvas, choose 'canvas regions' and mark both regions"
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
    "aspect. Scale and crop the mask in the same way as the reference; where several references have different "
    "aspects, choose one in reference"
)


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

    def __str__(self) -> str:
        what = "all references" if self.reference < 0 else f"reference {self.reference}"
        chosen = {"steps": self.selection.steps, "layers": self.selection.layers, "heads": self.selection.heads}
        parts = [
            f"strength {self.strength:g} on {'a region of ' if self.reference_region is not None else ''}{what}",
            f"by {self.by}",
            *self._where(),
            f"{self.branch} branch{'es' if self.branch == 'both' else ''}",
            *(f"{name} {text}" for name, text in chosen.items() if text != "all"),
        ]
        return ", ".join(parts)

    def _where(self) -> list[str]:
        """Guidance leaves out as ``through`` says, and mixes in the region; the others steer the region's rows."""
        region = ["in a region of the picture"] if self.generated_region is not None else []
        return region if region and self.by != "guidance" else [f"through {self.through}", *region]


class Choice:
    """What ``settings`` choose in one run, of its ``branches``: references are numbered as in the first of these.

    ``given`` says what became of all that a branch was given, to name it where nothing of it can be steered.
    """

    def __init__(
        self, settings: Settings, branches: Sequence[str], given: Callable[[str], Sequence[GivenReference]]
    ) -> None:
        self.settings, self.branches, self._given = settings, branches, given
        self._note = f"steered by I2AM Steer: {settings}"
        self._references = {branch: References() for branch in branches}
        self._layers: dict[Layer, int] = {}  # numbered by the first call
        self._lock = threading.Lock()

    # What a run holds, as it turns up

    def give(self, references: Sequence[Reference], branch: str) -> None:
        """Number the references that a branch was given."""
        with self._lock:
            self._references[branch].give(references)

    def numbered(self, one: LocatedIn) -> "Numbered":
        """Number what was located in the rows of one conditioning."""
        layer = one.first.layer
        placed = Layer(layer.name, one.chunk.placement.on(layer.grid).grid, layer.heads)
        with self._lock:
            number = self._layers.setdefault(placed, len(self._layers))
            own = self._references[one.chunk.branch]
            numbers = tuple(
                tuple(own.number(Reference.of(group)) for group in match.references)
                for match in one.by_mechanism.values()
            )
        return Numbered(one, selects(self.settings.selection.layers, number, layer.name), numbers)

    def check(self) -> None:
        """When all references and layers have been read once. Raises ValueError for what does not exist."""
        settings = self.settings
        by_branch = [[x.known[number] for number in x.counted] for x in self._references.values()]
        counted = next((references for references in by_branch if references), [])
        if not counted:
            raise ValueError(self._why_none())
        if settings.reference >= max(map(len, by_branch)):
            there = ", ".join(f"{number} ('{reference.name}')" for number, reference in enumerate(counted))
            raise ValueError(NO_SUCH_REFERENCE.format(settings.reference, there))
        if self._layers:
            with named():
                names = [layer.name for layer in self._layers]
                parse_selection(settings.selection.layers, len(names), "layers", names)

    def _why_none(self) -> str:
        """Why there is nothing to steer, in sentences: what was given and its fate, and what to do."""
        given = list(dict.fromkeys(one for branch in self.branches for one in self._given(branch)))
        none = NO_REFERENCE.format(self.settings.mechanism, listed(self.branches))
        advice = [*advice_of(given), *([] if any(x.certain for x in given) else [CONNECT])]
        return " ".join(f"{sentence}." for sentence in (none, *sentences_of(given), *advice))

    # What of it is chosen

    def change(self, call: AttentionCall, numbered: "Numbered") -> Change | None:
        """The change of the rows of one conditioning; None where nothing of them is chosen."""
        one, settings = numbered.one, self.settings
        if not numbered.is_layer_chosen:
            return None
        keys, is_part = call.shape[3], False
        columns: list[Tensor] = []
        for match, numbers in zip(one.by_mechanism.values(), numbered.numbers, strict=True):
            chosen = self._chosen_groups(match, numbers, one.chunk.branch)
            groups = [group for group, _ in chosen]
            of_match = columns_of(groups, match, keys)
            if settings.reference_region is not None:
                in_region = self._in_region(chosen, match, keys)
                places = [match.columns(group.index, keys) for group in groups if group.grid is not None]
                if sum(map(len, in_region)) < sum(map(len, places)):  # else it is the reference, and not a part of it
                    of_match, is_part = in_region, True
            columns += of_match
        positions = self._positions(one, call.shape[2])
        if not sum(map(len, columns)) or (positions is not None and not positions.any()):
            return None
        # What a part of a reference loses must not go to the rest of it, where there is nothing else to look at: in the
        # demo model, positions that had looked at a background that was left out painted the object.
        by: ChangedBy = "output" if settings.by == "output" else "attention"
        if is_part and by == "attention" and is_alone(one, keys):
            by = "values"
        heads = self._heads(one.first.layer)
        return Change(one.chunk.rows, torch.cat(columns).unique(), settings.strength, by, positions, heads, self._note)

    def _is_chosen(self, number: int, branch: str) -> bool:
        return self.settings.reference < 0 or self._chosen_number(branch) == number

    def _chosen_number(self, branch: str) -> int | None:
        """The chosen reference among those of a branch: as a person counts in the first branch, and the same image in
        the other, which may have another place there. An image that is in the other alone counts by its place.
        """
        wanted = self.settings.reference
        first, own = self._references[self.branches[0]], self._references[branch]
        if own is not first and wanted < len(first.counted):
            number = _same_reference(first.known[first.counted[wanted]], own.known)
            if number is not None:
                return number
        in_place = own.counted[wanted] if wanted < len(own.counted) else None
        if own is first or in_place is None or _same_reference(own.known[in_place], first.known) is None:
            return in_place
        return None

    def _chosen_groups(self, match: Located, numbers: Sequence[int], branch: str) -> list[tuple[TokenGroup, int]]:
        """The chosen ones of what one mechanism located, and their numbers as a person counts."""
        counted = self._references[branch].counted
        pairs = zip(match.references, numbers, strict=True)
        return [(group, counted.index(number)) for group, number in pairs if self._is_chosen(number, branch)]

    def _in_region(self, chosen: Sequence[tuple[TokenGroup, int]], match: Located, keys: int) -> list[Tensor]:
        """The columns of these references in the region. Raises ValueError for those that have no places in it."""
        region = self.settings.reference_region
        assert region is not None
        columns = []
        for group, number in chosen:
            if group.grid is None:
                if not any(other.key == group.key and other.grid is not None for other in match.references):
                    refuse(NO_PLACES.format(number, group.name))
                continue
            if not has_aspect_of(region, group.grid):
                height, width = region.shape[-2:]
                tokens = f"{group.grid.width} by {group.grid.height}"
                refuse(OTHER_ASPECT.format(width, height, number, group.name, tokens))
            columns.append(columns_in(region[0], group, match, keys))
        return columns

    def _positions(self, one: LocatedIn, queries: int) -> Tensor | None:
        """The rows of tokens that are steered, ``[items or 1, N]``; None for all."""
        region = self.settings.generated_region
        if region is None and self.settings.through == "everything":
            return None
        rows = rows_of_picture(one, queries, region)
        return None if rows.all() else rows

    def _heads(self, layer: Layer) -> Tensor | None:
        if self.settings.selection.all_heads:
            return None
        heads = torch.zeros(layer.heads, dtype=torch.bool)
        with named():
            heads[self.settings.selection.head_numbers(layer.name, layer.heads)] = True
        return None if heads.all() else heads


@dataclass(frozen=True)
class Numbered:
    """What was located in the rows of one conditioning, with the ``numbers`` of the references of each mechanism."""

    one: LocatedIn
    is_layer_chosen: bool
    numbers: tuple[tuple[int, ...], ...]

    @property
    def signature(self) -> tuple:
        """What its change depends on, in one call of the denoiser: layers of equal ones are steered alike."""
        groups = [(x.name, x.key, x.count) for match in self.one.by_mechanism.values() for x in match.references]
        first = self.one.first
        rows = self.one.chunk.rows.start, first.layer.grid, first.of_others
        return *rows, self.is_layer_chosen, self.numbers, tuple(groups)


def _same_reference(reference: Reference, others: Sequence[Reference]) -> int | None:
    """The number of the same one among ``others``, by its name and key, or by what it is made from alone."""
    for number, other in enumerate(others):
        if (other.name, other.key) == (reference.name, reference.key):
            return number
    return next((n for n, x in enumerate(others) if x.key == reference.key and is_fingerprint(x.key)), None)

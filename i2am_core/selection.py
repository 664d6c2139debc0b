"""Selections that a person types, such as ``all``, ``0-4,10`` or ``output*``, and what they select in a run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from .attribution import Attribution
from .errors import BadSelection, NoMask, UnknownChoice, UnresolvedAxis
from .kinds import MapKind

SCOPES = ("auto", "whole image", "inpainting mask")
MOST_DIGITS = 18  # of a number that anyone types


@dataclass(frozen=True)
class Selection:
    """Which part of an attribution is requested, as it was typed.

    ``steps``, ``layers`` and ``heads`` are typed as ``parse_selection`` says, ``reference`` and ``item`` are numbers.
    ``scope`` says which positions count in G2R: 'whole image', 'inpainting mask', or 'auto', which is the mask where
    the run had one.
    """

    steps: str = "all"
    layers: str = "all"
    heads: str = "all"
    reference: int = 0
    item: int = 0
    scope: str = "auto"

    def of(self, attribution: Attribution, each_head: bool = False) -> "Selected":
        """What it selects there; ``each_head`` says that their mean is not enough.

        Raises an AttributionError for what does not exist, or was merged.
        """
        attribution.check_item(self.item)
        attribution.check_reference(self.reference)
        scope = resolve_scope(attribution, self.scope, self.item)
        bins = self._bins(attribution)
        numbers = self.layer_numbers([layer.name for layer in attribution.layers])
        layers = tuple(n for n in numbers if attribution.layer_maps(self.reference, n) is not None)
        heads = {n: self.head_numbers(attribution.layers[n].name, attribution.layers[n].heads) for n in layers}
        apart = each_head or any(len(heads[n]) < attribution.layers[n].heads for n in layers)
        over_steps = apart and attribution.heads != "in each step"
        if over_steps:
            self._check_over_steps(attribution, bins)
        elif attribution.heads != "in each step":
            heads = {n: [0] for n in layers}
        return Selected(self, bins, layers, heads, self.reference, self.item, scope, over_steps)

    def step_numbers(self, count: int) -> list[int]:
        """The selected ones of ``count`` steps, also before there is a run. Raises BadSelection."""
        return parse_selection(self.steps, count, "steps")

    def layer_numbers(self, names: Sequence[str]) -> list[int]:
        """The selected ones of layers with these names. Raises BadSelection."""
        return parse_selection(self.layers, len(names), "layers", names)

    def head_numbers(self, layer: str, count: int) -> list[int]:
        """The selected ones of the ``count`` heads of a layer with this name. Raises BadSelection."""
        return parse_selection(self.heads, count, f"heads in layer '{layer}'")

    @property
    def all_heads(self) -> bool:
        """Whether no head is left out."""
        return is_all(self.heads)

    def _bins(self, attribution: Attribution) -> tuple[int, ...]:
        """The time bins of the selected steps, which must be whole bins."""
        chosen = set(self.step_numbers(attribution.steps))
        bins = tuple(b for b, steps in enumerate(attribution.bins) if chosen & set(steps))
        if chosen != {step for b in bins for step in attribution.bins[b]}:
            raise UnresolvedAxis("steps", self.steps, [numbers_text(b) for b in attribution.bins])
        return bins

    def _check_over_steps(self, attribution: Attribution, bins: tuple[int, ...]) -> None:
        """Heads that are not kept apart in each step must be so over steps, and all steps be selected."""
        text = "" if self.all_heads else self.heads
        if attribution.heads == "merged":
            raise UnresolvedAxis("heads", text)
        if len(bins) < len(attribution.bins):
            raise UnresolvedAxis("heads", text, within="steps")


@dataclass(frozen=True)
class Selected:
    """What a selection comes to in one attribution: numbers of its time bins, layers, heads, reference and item.

    ``layers`` are those of the selected ones that read the reference, with the ``heads`` of each. ``over_steps`` says
    that heads are apart as means over all steps: these are then one time bin.
    """

    selection: Selection
    bins: tuple[int, ...]
    layers: tuple[int, ...]
    heads: Mapping[int, Sequence[int]]  # by layer; [0] where their mean is selected, and kept as such
    reference: int
    item: int
    scope: str  # 'whole image' or 'inpainting mask'
    over_steps: bool = False

    def kind(self, kind: MapKind) -> MapKind:
        """The kind of map in the selected scope."""
        return kind.within(self.scope == "inpainting mask")


def resolve_scope(attribution: Attribution, scope: str, item: int) -> str:
    """'whole image' or 'inpainting mask', from these or 'auto', which is the mask where there is one.

    Raises NoMask where there is none, and UnknownChoice for any other scope.
    """
    mask = attribution.denoise_mask
    has_mask = mask is not None and bool((mask[item] > 0).any())
    if scope == "auto":
        return "inpainting mask" if has_mask else "whole image"
    if scope == "inpainting mask" and not has_mask:
        raise NoMask(item)
    if scope not in SCOPES:
        raise UnknownChoice("scope", scope, SCOPES)
    return scope


def is_all(text: str) -> bool:
    """Whether a selection is 'all', or nothing was typed, which means the same."""
    return text.strip().lower() in ("", "all")


def parse_selection(text: str, count: int, what: str, names: Sequence[str] = ()) -> list[int]:
    """The numbers that ``text`` selects, ascending and without repeats.

    There are ``count`` things called ``what`` (a plural: "steps"), numbered from 0. ``text`` is 'all', or numbers,
    ranges and names with commas between them: '0-4,10', 'output*'. ``names`` are those of the things, and ``*`` matches
    any part of a name. Raises BadSelection for what cannot be read or does not exist.
    """
    text = text.strip()
    if is_all(text):
        return list(range(count))
    chosen: set[int] = set()
    for part in (part.strip() for part in text.split(",")):
        if part:
            chosen.update(_parse_part(part, count, what, names))
    if not chosen:
        raise BadSelection(what, text, count, "nothing", names)
    return sorted(chosen)


def _parse_part(part: str, count: int, what: str, names: Sequence[str]) -> list[int]:
    if (ends := _ends(part)) is not None:
        low, high = ends
        if low > high:
            raise BadSelection(what, part, count, "backwards", names)
        if high >= count:
            raise BadSelection(what, part, count, "out of range", names)
        return list(range(low, high + 1))
    named = [i for i, name in enumerate(names) if fnmatchcase(name.lower(), part.lower())]
    if not named:
        raise BadSelection(what, part, count, "unreadable", names)
    return named


def selects(text: str, number: int, name: str) -> bool:
    """Whether ``text`` selects a thing of this number and name, while not all of the things are known yet.

    What cannot be read or does not exist selects nothing: ``parse_selection`` says so when all are known.
    """
    if is_all(text):
        return True
    for part in (part.strip() for part in text.split(",")):
        if (ends := _ends(part)) is not None:
            if ends[0] <= number <= ends[1]:
                return True
        elif fnmatchcase(name.lower(), part.lower()):
            return True
    return False


def _ends(part: str) -> tuple[int, int] | None:
    """The first and last number of a part such as '3' or '0-4'; None where it is a name."""
    first, dash, last = (x.strip() for x in part.partition("-"))
    return (_number(first), _number(last or first)) if first.isdecimal() and (last.isdecimal() or not dash) else None


def _number(digits: str) -> int:
    """One of very many digits, which Python would refuse to read, is larger than any count anyway."""
    return int(digits[-MOST_DIGITS:]) if len(digits.lstrip("0")) <= MOST_DIGITS else 10**MOST_DIGITS


def numbers_text(numbers: Iterable[int]) -> str:
    """Ascending numbers as they are typed: '0-4,10'."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)

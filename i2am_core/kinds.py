"""The kinds of maps: a direction, a normalization, and whether all positions count or only those in the mask."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from .errors import UnknownChoice

Direction = Literal["r2g", "g2r"]
Normalization = Literal["paper", "share"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)


@dataclass(frozen=True)
class MapKind:
    """One kind of map.

    ``direction`` is 'r2g', a map on the picture, or 'g2r', a map on the reference (Park & Jang, section 3).
    ``normalization`` is 'paper', where a map sums to 1, or 'share', where its values are parts of the attention.
    ``scoped`` means that it is a mean over the positions in scope (the inpainting mask) alone, which only G2R can be.
    Raises UnknownChoice for another direction or normalization.
    """

    direction: Direction
    normalization: Normalization = "paper"
    scoped: bool = False

    def __post_init__(self) -> None:
        for what, got, known in (
            ("direction", self.direction, DIRECTIONS),
            ("normalization", self.normalization, NORMALIZATIONS),
        ):
            if got not in known:
                raise UnknownChoice(what, got, known)

    @property
    def key(self) -> str:
        """Its name among the fields of ``Marginals``, and in files, such as 'g2r_share_scope'."""
        return f"{self.direction}_{self.normalization}" + ("_scope" if self.scoped else "")

    @classmethod
    def parse(cls, key: str) -> "MapKind":
        """The kind of a key. Raises UnknownChoice."""
        if key not in KIND_OF:
            raise UnknownChoice("kind of map", key, tuple(KIND_OF))
        return KIND_OF[key]

    @property
    def on_reference(self) -> bool:
        """Whether it lies on the reference (G2R), and not on the picture."""
        return self.direction == "g2r"

    def within(self, scoped: bool) -> "MapKind":
        """This kind over the positions in scope, or over all; R2G is the same in both."""
        return replace(self, scoped=scoped and self.on_reference)


UNSCOPED = tuple(MapKind(direction, normalization) for direction in DIRECTIONS for normalization in NORMALIZATIONS)
KINDS = (*UNSCOPED, *(kind.within(True) for kind in UNSCOPED if kind.on_reference))
KIND_OF = {kind.key: kind for kind in KINDS}
PAIR_KEY: dict[Direction, str] = {"g2r": "g2r_pairs", "r2g": "r2g_pairs"}
PAIR_KEYS = tuple(PAIR_KEY.values())

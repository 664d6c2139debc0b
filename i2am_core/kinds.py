"""What maps there are: a direction, a normalization, and whether only the positions of the mask ask."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from .errors import UnknownChoice

Direction = Literal["r2g", "g2r"]
Normalization = Literal["paper", "share"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)


@dataclass(frozen=True)
class MapKind:
    """``scoped``: a mean over the positions in scope (the inpainting mask) alone, which only G2R can be."""

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
        """Its name among the fields of ``attention.Marginals``, and in files."""
        return f"{self.direction}_{self.normalization}" + ("_scope" if self.scoped else "")

    @classmethod
    def parse(cls, key: str) -> "MapKind":
        """The kind of a key. Raises UnknownChoice."""
        if key not in KIND_OF:
            raise UnknownChoice("kind of map", key, tuple(KIND_OF))
        return KIND_OF[key]

    @property
    def on_reference(self) -> bool:
        """Whether it lies on the reference, or on the picture."""
        return self.direction == "g2r"

    def within(self, scoped: bool) -> "MapKind":
        """This kind as asked by the positions in scope or by all; R2G has no other."""
        return replace(self, scoped=scoped and self.on_reference)


UNSCOPED = tuple(MapKind(direction, normalization) for direction in DIRECTIONS for normalization in NORMALIZATIONS)
KINDS = (*UNSCOPED, *(kind.within(True) for kind in UNSCOPED if kind.on_reference))
KIND_OF = {kind.key: kind for kind in KINDS}
PAIR_KEY: dict[Direction, str] = {"g2r": "g2r_pairs", "r2g": "r2g_pairs"}
PAIR_KEYS = tuple(PAIR_KEY.values())

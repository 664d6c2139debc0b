"""The parts of an attention call: which rows are the picture, which columns are a reference."""

from dataclasses import dataclass

from torch import Tensor

from .errors import BadAttention

Index = slice | Tensor
"""Positions along a token axis: a slice, or a 1-D tensor of indices."""


@dataclass(frozen=True)
class TokenGrid:
    """Tokens laid out row by row over an image, or over the frames of a video, one frame after the other."""

    height: int
    width: int
    frames: int = 1

    @property
    def cells(self) -> int:
        """How many cells the grid has, in all frames."""
        return self.frames * self.plane

    @property
    def plane(self) -> int:
        """How many cells one frame has."""
        return self.height * self.width

    def __str__(self) -> str:
        return f"{self.width}x{self.height}" + (f" in {self.frames} frames" if self.frames > 1 else "")


@dataclass(frozen=True)
class TokenGroup:
    """The keys that belong to one reference: ``index`` are their positions, ``count`` their number.

    ``grid`` is None where the tokens have no place in an image (a global embedding). ``key`` distinguishes groups of
    one name, where a run has several. ``cells [count]`` are the cells of the tokens, where the grid has more cells than
    there are tokens; maps are 0 in the others. ``embeds [count, C]`` are the tokens themselves, before a layer makes
    keys of them, where they are known. ``approximate`` says that the grid is a guess. Raises BadAttention where the
    tokens do not fill their grid.
    """

    name: str
    index: Index
    count: int
    grid: TokenGrid | None = None
    key: str = ""
    cells: Tensor | None = None
    embeds: Tensor | None = None
    approximate: bool = False

    @property
    def places(self) -> int:
        """How long its maps are: a value for each token, or for each cell of the grid."""
        return self.count if self.grid is None else self.grid.cells

    def __post_init__(self) -> None:
        if self.cells is None and self.grid is not None and self.grid.cells != self.count:
            raise BadAttention(
                f"'{self.name}' has {self.count} tokens, which do not fill a grid of {self.grid}: "
                f"give a grid of {self.count} cells, or none.",
                self.count,
            )


def span(name: str, start: int, grid: TokenGrid | None = None, count: int | None = None) -> TokenGroup:
    """A group of neighbouring keys from ``start`` on: ``grid.cells`` of them, or ``count``.

    Raises BadAttention where there is neither a grid nor a count, or where they do not agree.
    """
    if count is None:
        if grid is None:
            raise BadAttention(f"'{name}' has neither a grid nor a count: give one, so that its tokens are known.")
        count = grid.cells
    return TokenGroup(name, slice(start, start + count), count, grid)

"""What a part of the study gives to the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Section:
    """Markdown blocks below a title, and figures: a name in ``text`` as '{name}' is where a figure goes.

    ``verdicts`` are what the page says of this part in short: by the question, one sentence with its numbers.
    """

    title: str
    text: Sequence[str]
    figures: Mapping[str, tuple[Figure, str]] = field(default_factory=dict)  # by name the figure, and what it shows
    verdicts: Mapping[str, str] = field(default_factory=dict)

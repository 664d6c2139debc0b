"""docs/validation.md and its figures, from the sections that were run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .lab import Lab
from .section import Section

HEAD = """# Validation

What the maps, I2AM Effect and IMACS are worth, measured on the two models of the demo, whose truth is known: a U-Net with
cross-attention, trained with losses on its attention, and a small Flux with joint attention, trained by the picture alone.
`scripts/validate` made this page and its figures: {scenes} held-out scenes of each model, {steps} steps of `euler`, guidance 1.
Brackets are 95 % of a bootstrap over scenes. All of it is of these two small models: what of it holds for a large one was not measured.
"""


def write(docs: Path, lab: Lab, sections: Mapping[str, Section]) -> Path:
    """Write the page into the folder ``docs`` and its figures beside it into ``images``."""
    blocks = [HEAD.format(scenes=lab.scenes, steps=lab.steps)]
    if verdicts := {question: says for section in sections.values() for question, says in section.verdicts.items()}:
        rows = "\n".join(f"| {question} | {says} |" for question, says in verdicts.items())
        blocks.append(f"| question | measured |\n| --- | --- |\n{rows}")
    for part, section in sections.items():
        drawn = {name: _draw(docs, f"{part}_{name}", *figure) for name, figure in section.figures.items()}
        blocks += [f"## {section.title}", *(drawn.get(text.strip("{}"), text) for text in section.text)]
    path = docs / "validation.md"
    path.write_text("\n\n".join(block.strip("\n") for block in blocks) + "\n", encoding="utf-8")
    return path


def _draw(docs: Path, name: str, figure: object, shows: str) -> str:
    path = docs / "images" / f"validation_{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)  # type: ignore[attr-defined]
    return f"![{shows}](images/{path.name})"

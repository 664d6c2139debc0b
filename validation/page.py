"""docs/validation.md and its figures, from the sections that were made with the same settings.

Each section is kept in its finished form, so that a part that is run alone takes no other from the page.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from comfyui_version import __version__

from ..demo.results import unfinished_of
from .lab import Lab
from .section import Section

HEAD = """# Validation

What the maps, I2AM Effect and IMACS are worth, measured on the two models of the demo, whose truth is known: a U-Net
with cross-attention, trained with losses on its attention, and a small Flux with joint attention, trained by the
picture alone.
`{command}` made this page and its figures: {settings}. Behind each file of weights is the beginning of its SHA-256.
Written by {code}.
All pictures are painted by `euler` with guidance 1. Brackets are 95 % of a bootstrap over scenes. Bold is the highest
of a column, and what cannot be told from it scene by scene. All of it is of these two small models: what of it holds
for a large one was not measured.
"""


@dataclass(frozen=True)
class _Finished:
    """A section as the page has it."""

    blocks: list[str]  # of Markdown
    verdicts: dict[str, str]
    code: str  # that wrote it: of us the commit, and versions


def keep(lab: Lab, part: str, section: Section) -> None:
    """Write the finished form of a section among the results. Raises ValueError where its figures have no place."""
    folder = _folder(lab, part)
    temporary = unfinished_of(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    blocks = [f"## {section.title}", *_placed(part, section)]
    for name, (figure, _) in section.figures.items():
        figure.savefig(temporary / _file(part, name), dpi=110, metadata={"Software": None})
    text = json.dumps({"blocks": blocks, "verdicts": dict(section.verdicts), "code": written_by()}, indent=1)
    (temporary / "section.json").write_text(text, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def write(docs: Path, lab: Lab, parts: Sequence[str], command: str) -> Path:
    """Write the page of ``parts`` into the folder ``docs`` and its figures beside it into ``images``."""
    finished = {part: _read(lab, part) for part in parts if _folder(lab, part).is_dir()}
    blocks = [HEAD.format(command=command, settings=lab.settings, code=_code(finished))]
    if verdicts := {question: says for x in finished.values() for question, says in x.verdicts.items()}:
        said = (f"* **{question[:1].upper()}{question[1:]}**: {says}" for question, says in verdicts.items())
        blocks += ["## In short", "\n".join(said)]
    blocks += [block for x in finished.values() for block in x.blocks]
    if lacking := [part for part in parts if part not in finished]:
        blocks.append(f"Not run with these settings: {', '.join(lacking)}.")
    _copy_figures(docs, lab, finished)
    path = docs / "validation.md"
    unfinished = unfinished_of(path)
    unfinished.write_text("\n\n".join(block.strip("\n") for block in blocks) + "\n", encoding="utf-8")
    return unfinished.replace(path)


def written_by() -> str:
    """The code that runs now: this repository's commit, where it is one, and what it computes with."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        ours = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        ours = "unknown"  # no git, or files without their history
    return f"commit {ours}, PyTorch {torch.__version__}, ComfyUI {__version__}"


def _code(finished: Mapping[str, _Finished]) -> str:
    """What wrote the sections: once where it is the same."""
    parts: dict[str, list[str]] = {}
    for part, x in finished.items():
        parts.setdefault(x.code, []).append(part)
    return "; ".join(code if len(parts) == 1 else f"{code} ({', '.join(of)})" for code, of in parts.items())


def _placed(part: str, section: Section) -> list[str]:
    """The blocks of its text, '{name}' as the picture of that figure. All figures have to be placed."""
    blocks, left = [], dict(section.figures)
    for text in section.text:
        name = re.fullmatch(r"\s*\{(\w+)\}\s*", text)
        if name is None:
            blocks.append(text)
        elif name[1] in left:
            blocks.append(f"![{left.pop(name[1])[1]}](images/{_file(part, name[1])})")
        else:
            raise ValueError(f"The text of {part} places a figure {name[1]!r}, which it does not have, or twice.")
    if left:
        raise ValueError(f"The text of {part} has no place for its figures {', '.join(left)}: give each a block.")
    return blocks


def _copy_figures(docs: Path, lab: Lab, parts: Sequence[str] | dict[str, _Finished]) -> None:
    images = docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    for old in images.glob(_file("*", "*")):
        old.unlink()
    for part in parts:
        for figure in _folder(lab, part).glob("*.png"):
            shutil.copyfile(figure, images / figure.name)


def _read(lab: Lab, part: str) -> _Finished:
    return _Finished(**json.loads((_folder(lab, part) / "section.json").read_text(encoding="utf-8")))


def _folder(lab: Lab, part: str) -> Path:
    return lab.folder / "sections" / part


def _file(part: str, name: str) -> str:
    return f"validation_{part}_{name}.png"

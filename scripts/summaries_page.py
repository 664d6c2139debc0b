"""Write docs/summaries.md: what I2AM Collect says of the templates and of cases from the field. Runs anywhere.

python scripts/summaries_page.py
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from devenv import ROOT
from devenv.pages import is_in_host

PAGE = ROOT / "docs" / "summaries.md"
HEAD = """# What I2AM Collect says

The summaries of the templates, and of cases that people met in the field. Each was sampled by the pinned ComfyUI with a
tiny model of the same class and random weights: grids, layers and numbers are those of the tiny model, the sentences
are those that you will see. `python scripts/summaries_page.py` writes this page, and a test compares it.
"""


def page(parts: Iterable[tuple[str, Iterable[Any]]]) -> str:
    """The whole page; each part has a title and its cases."""
    lines = [HEAD]
    for title, cases in parts:
        lines.append(f"## {title}\n")
        for case in cases:
            lines.append(f"### {case.title}\n\n{case.about}\n\n```\n{case.make()}\n```\n")
    return "\n".join(lines)


def main() -> None:
    if is_in_host(__file__):
        summaries = importlib.import_module("summaries")
        PAGE.write_text(page((("Templates", summaries.TEMPLATES), ("Cases", summaries.CASES))))


if __name__ == "__main__":
    main()

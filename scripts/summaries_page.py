"""Write docs/summaries.md: what I2AM Collect says of the templates and of cases from the field. Runs anywhere.

python scripts/summaries_page.py
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from devenv import ROOT, one_sentence_errors, prepare

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
    if "I2AM_IN_HOST" not in os.environ:
        with one_sentence_errors():
            host = prepare()
            env = host.env() | {"COMFYUI_PATH": str(host.comfyui), "I2AM_IN_HOST": "1"}
            subprocess.run([str(host.python), __file__], env=env, check=True)
        return
    sys.path[:0] = [str(ROOT / "tests")]
    importlib.import_module("conftest")  # makes the pack importable, as i2am_pack
    importlib.import_module("in_process_host").load()
    summaries = importlib.import_module("summaries")
    PAGE.write_text(page((("Templates", summaries.TEMPLATES), ("Cases", summaries.CASES))))


if __name__ == "__main__":
    main()

"""Write the table of docs/mechanisms.md from what each mechanism says of itself. Runs anywhere.

python scripts/mechanisms_page.py
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from devenv import ROOT
from devenv.pages import is_in_host

PAGE = ROOT / "docs" / "mechanisms.md"
HEAD = ("mechanism", "users build it with", "what is captured", "spatial", "how sure", "limits")
RULE = "|---" * len(HEAD) + "|"


def table(mechanisms: Iterable[Any]) -> list[str]:
    """The lines of the table: for each mechanism, the rows that it is ``documented`` with."""
    rows = [HEAD]
    for mechanism in mechanisms:
        for number, about in enumerate(mechanism.documented):
            name = about.name or ("" if number else mechanism.name)
            rows.append((name, about.users, about.captured, about.spatial, about.certainty, about.limits))
    head, *rest = ("| " + " | ".join(cells) + " |" for cells in rows)
    return [line.replace("|  |", "| |") for line in (head, RULE, *rest)]


def with_table(page: str, lines: list[str]) -> str:
    """The page with these lines in place of its table of mechanisms."""
    before = page.splitlines()
    start = next(number for number, line in enumerate(before) if line.startswith(f"| {HEAD[0]} |"))
    end = next(number for number, line in enumerate(before) if number > start and not line.startswith("|"))
    return "\n".join([*before[:start], *lines, *before[end:]]) + "\n"


def main() -> None:
    if is_in_host(__file__):
        mechanisms = importlib.import_module("i2am_pack.nodes.comfy.mechanisms").MECHANISMS
        PAGE.write_text(with_table(PAGE.read_text(), table(mechanisms.values())))


if __name__ == "__main__":
    main()

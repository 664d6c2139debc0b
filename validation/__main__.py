"""Run the study, or parts of it, and write docs/validation.md. Resumable: run the same command again."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .lab import Lab
from .page import write
from .parts import PARTS

SCENES, STEPS = 24, 8


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="scripts/validate", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="to run (default: all)")
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--cache", type=Path, default=Path("runs/validation"), help="a folder for results")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where validation.md goes")
    given = parser.parse_args(arguments)
    lab, sections = Lab(given.scenes, given.steps, given.cache), {}
    for name in given.parts or PARTS:
        started = time.monotonic()
        sections[name] = PARTS[name](lab)
        sys.stderr.write(f"{name}: {time.monotonic() - started:.0f} s\n")
    sys.stdout.write(f"{write(given.docs, lab, sections)}\n")


if __name__ == "__main__":
    main()

"""Run the study, or parts of it, and write docs/validation.md. Resumable: run the same command again."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from ..demo.weights import JOINT_WEIGHTS, WEIGHTS
from .lab import DRAWN, Lab
from .page import keep, write
from .parts import PARTS

ROOT = Path(__file__).resolve().parents[1]
SCENES, STEPS = 24, 8
LEAST = 2  # scenes, or there is nothing to draw from


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="scripts/validate", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"to run: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--scenes", type=int, default=SCENES, help=f"of each model (default: {SCENES})")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each run (default: {STEPS})")
    parser.add_argument(
        "--cache",
        type=Path,
        default=ROOT / "runs/validation",
        help="a folder for results: empty it where code has changed that they come from (default: runs/validation)",
    )
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where validation.md goes")
    parser.add_argument("--in", dest="folder", type=Path, default=Path(), help="the folder that other paths are from")
    given = parser.parse_args(arguments)
    if wrong := _wrong(given):
        raise SystemExit(wrong)
    try:
        _run(given)
    except KeyboardInterrupt:
        raise SystemExit("Interrupted; run the same command again to go on from where it stopped.") from None


def _run(given: argparse.Namespace) -> None:
    lab = Lab(given.scenes, given.steps, given.folder / given.cache)
    for name in given.parts or PARTS:
        started = time.monotonic()
        keep(lab, name, PARTS[name](lab))
        sys.stderr.write(f"{name}: {time.monotonic() - started:.0f} s\n")
    sys.stdout.write(f"{write(given.folder / given.docs, lab, list(PARTS), _command(given))}\n")


def _wrong(given: argparse.Namespace) -> str:
    """What is wrong with the arguments, in one sentence; nothing is ''."""
    unknown = [name for name in given.parts if name not in PARTS]
    if unknown:
        return f"There is no part {unknown[0]!r}: the parts are {', '.join(PARTS)}."
    if not LEAST <= given.scenes <= DRAWN:
        return f"--scenes is {given.scenes}: give {LEAST} to {DRAWN}."
    if given.steps < 1:
        return f"--steps is {given.steps}: give 1 or more."
    lacking = [path for path in (WEIGHTS, JOINT_WEIGHTS) if not path.is_file()]
    return f"The weights {lacking[0]} are not there: the study is of both demo models." if lacking else ""


def _command(given: argparse.Namespace) -> str:
    """That makes the whole page."""
    numbers = {"--scenes": (given.scenes, SCENES), "--steps": (given.steps, STEPS)}
    return " ".join(["scripts/validate", *(f"{x} {n}" for x, (n, usual) in numbers.items() if n != usual)])


if __name__ == "__main__":
    # ComfyUI takes a model for lost of which a clone has gone, and says so whenever it loads another.
    logging.getLogger().addFilter(lambda record: "memory leak with model" not in record.getMessage())
    main()

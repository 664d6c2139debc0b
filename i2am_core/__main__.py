"""``python -m i2am_core FILE``: print what a saved attribution holds and draw its contact sheet."""

import argparse
import sys
from pathlib import Path

from .files import SUFFIX, load
from .findings.examine import run_lines
from .printing import printable, printable_lines
from .showing.report import attribution_sheet


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m i2am_core", description=__doc__)
    parser.add_argument("file", type=Path, help="a saved attribution")
    parser.add_argument("--out", type=Path, help="the contact sheet (default: beside the file)")
    arguments = parser.parse_args()
    file: Path = arguments.file
    try:
        attribution = load(file)
        _write(printable_lines("\n".join([*run_lines(attribution), attribution.summary()])))
        sheet: Path = arguments.out or file.with_name(file.name.removesuffix(SUFFIX) + ".png")
        attribution_sheet(attribution, sheet)
    except (ValueError, OSError) as error:
        sys.exit(printable(str(error)))
    _write(f"contact sheet: {printable(str(sheet))}")


def _write(text: str) -> None:
    """A line, or several. What the terminal has no letter for is written as its number."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


if __name__ == "__main__":
    main()

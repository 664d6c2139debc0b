"""Compose the demo's banner and contact sheet from the files that it wrote. Runs in the host's Python.

python scripts/contact_sheet.py OUT
"""

import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from PIL import Image

from demo_graph import LEVELS
from i2am_core.showing.contact_sheet import Row, contact_sheet
from i2am_core.showing.report import COLUMNS, TITLES


def read(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def level_rows(out: Path, direction: str, title: str, level: str) -> list[Row]:
    """The overlays of one level, a few to a row."""
    paths = sorted(out.glob(f"{direction}_{level}_overlay*.png"))
    lines = (out / f"{direction}_{level}.txt").read_text().splitlines()
    labels = [line.split(" | ")[0] for line in lines]
    heading = f"{title}: {level}"
    return [
        Row(heading, [read(p) for p in paths[i : i + COLUMNS]], labels[i : i + COLUMNS])
        for i in range(0, len(paths), COLUMNS)
    ]


def first_row(out: Path) -> Row:
    names = ["scene", "reference", "generated", "truth", "r2g_unified_overlay", "g2r_unified_overlay"]
    captions = [
        "scene to paint",
        "reference",
        "generated",
        "truth",
        "where it was looked at",
        "what of it was looked at",
    ]
    return Row("The picture", [read(out / f"{name}.png") for name in names], captions)


def effect_row(out: Path) -> Row:
    names = ["with_reference", "without_reference", "r2g_effect_overlay", "g2r_effect_overlay"]
    captions = ["as seen from step 0", "the same without it", "what it changed", "how much each part of it did"]
    return Row("What the reference caused", [read(out / f"{name}.png") for name in names], captions)


def main(out: Path) -> None:
    scores = json.loads((out / "imacs.json").read_text())
    rows = [first_row(out), effect_row(out)]
    for direction, title in TITLES.items():
        for level in LEVELS[1:]:
            rows += level_rows(out, direction, title, level)
    contact_sheet(rows[:1], out / "banner.png")
    heading = f"I2AM: IMACS r2g {scores['r2g']['score']:.2f}, g2r {scores['g2r']['score']:.2f}"
    contact_sheet(rows, out / "contact_sheet.png", heading)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

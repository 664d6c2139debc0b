"""Scores against quality: which score ranks models, which ranks pictures; as a table, as data and as a figure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import compress
from pathlib import Path

import numpy as np
import pyarrow.parquet

from devenv import HostError
from evaluation.sets import Pair, set_distances
from evaluation.statistics import Estimate, over_models, overall, within
from evaluation.store import ABOUT, LINES, SCORES, finite, write_parquet
from evaluation.workflow import SCORES as SCORE_NODES

QUALITIES = {"psnr": 1, "ssim": 1, "l1": -1, "lpips": -1}  # by the beginning of a name: 1 where more is better
LEAST_ROWS = 8
OVER_MODELS = "over models"
MODEL, SCENE = "model", "scene"  # columns that name those of a row, where there are any
INK = {  # of a number, by whether its square is dark, and whether 0 is outside its interval
    (False, True): "black", (False, False): "0.55", (True, True): "white", (True, False): "0.8",
}  # fmt: skip
Table = dict[str, dict[str, dict[str, Estimate]]]  # by kind, by score, by quality


def write_report(folder: Path, models: str = "", scenes: str = "") -> list[Path]:
    """Writes ``correlation.md``, ``.json`` and ``.png`` into the folder of a run. Raises HostError.

    ``models`` and ``scenes`` are columns that name the model and the scene of a row; where they are not given,
    ``MODEL`` and ``SCENE`` are looked for.
    """
    columns = _read(folder)
    models, scenes = (_named(folder, columns, given, usual) for given, usual in ((models, MODEL), (scenes, SCENE)))
    scores, qualities = _of_kind(columns, _is_score), _of_kind(columns, _is_quality)
    if not scores or not qualities:
        lacking = "scores" if not scores else "measures of quality: run it with a column of right pictures (--truth)"
        raise HostError(f"{folder / SCORES} has no {lacking}.")
    names = [str(x) for x in columns[models]] if models else ["all"] * len(next(iter(columns.values())))
    table = correlations(scores, qualities, names, [str(x) for x in columns[scenes]] if scenes else None)
    if not table["all rows"]:
        raise HostError(f"No score in {folder / SCORES} has {LEAST_ROWS} rows in common with a measure of quality.")
    about = _about(names, models, scenes)
    text = folder / "correlation.md"
    text.write_text(_markdown(table, about) + _of_sets(folder, columns, names))
    data = folder / "correlation.json"
    numbers = {k: {s: {q: finite(asdict(e)) for q, e in of.items()} for s, of in x.items()} for k, x in table.items()}
    data.write_text(json.dumps(numbers, indent=2, allow_nan=False))
    return [text, data, draw(table, folder / "correlation.png")]


def _named(folder: Path, columns: Mapping[str, list], given: str, usual: str) -> str:
    """The column that is given, or has the usual name; "" where there is none. Raises HostError."""
    if given and given not in columns:
        raise HostError(f"{folder / SCORES} has no column {given!r} that names {usual}s: it has {', '.join(columns)}.")
    return given or (usual if usual in columns else "")


def correlations(
    scores: Mapping[str, np.ndarray], qualities: Mapping[str, np.ndarray], models: Sequence[str],
    scenes: Sequence[str] | None = None,
) -> Table:  # fmt: skip
    """Spearman's of each score with each quality, over rows that have both; more is better on both sides."""
    several = len(set(models)) > 2
    table: Table = {"all rows": {}, "within a model": {}, **({OVER_MODELS: {}} if several else {})}
    for score, values in scores.items():
        for quality, goodness in qualities.items():
            known = np.isfinite(values) & np.isfinite(goodness)
            if known.sum() < LEAST_ROWS:
                continue
            sign = next(x for start, x in QUALITIES.items() if quality.startswith(start))
            pair, own = (values[known], sign * goodness[known]), list(compress(models, known))
            of = None if scenes is None else list(compress(scenes, known))
            table["all rows"].setdefault(score, {})[quality] = overall(*pair, scenes=of)
            table["within a model"].setdefault(score, {})[quality] = within(*pair, own, scenes=of)
            if several:
                table[OVER_MODELS].setdefault(score, {})[quality] = over_models(*pair, own, scenes=of)
    return table


def draw(table: Table, path: Path) -> Path:
    """A square for each pair, blue to red; the number is grey where its interval has 0 in it, or is of few models."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = [kind for kind, of in table.items() if of]
    rows = list(table[kinds[0]])
    qualities = list(dict.fromkeys(q for of in table[kinds[0]].values() for q in of))
    figure, axes = pyplot.subplots(1, len(kinds), figsize=(3 + 2.4 * len(kinds), 1.6 + 0.34 * len(rows)), squeeze=False)
    for axis, kind in zip(axes[0], kinds, strict=True):
        values = np.array([[table[kind][s].get(q, _NONE).value for q in qualities] for s in rows])
        axis.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        for y, score in enumerate(rows):
            for x, quality in enumerate(qualities):
                one = table[kind][score].get(quality, _NONE)
                sure = kind != OVER_MODELS and (one.low > 0 or one.high < 0)
                dark = abs(one.value) > 0.65
                axis.text(x, y, f"{one.value:.2f}" if math.isfinite(one.value) else "-", ha="center", va="center",
                          fontsize=7, color=INK[dark, sure])  # fmt: skip
        axis.set_title(kind, fontsize=9)
        axis.set_xticks(range(len(qualities)), qualities, rotation=60, ha="right", fontsize=7)
        axis.set_yticks(range(len(rows)), rows if axis is axes[0][0] else [], fontsize=7)
    figure.suptitle(
        "Spearman of scores with quality; grey numbers: 0 is inside the 95 % interval, or models are too few for one",
        fontsize=8,
    )
    figure.savefig(path, dpi=140, bbox_inches="tight")
    pyplot.close(figure)
    return path


_NONE = Estimate(math.nan, math.nan, math.nan, 0)


def _read(folder: Path) -> dict[str, list]:
    """The columns of the scores, of which a run that was stopped has lines alone."""
    if not (folder / LINES).is_file():
        raise HostError(f"{folder} has no {LINES}: give the folder that scripts/evaluate run wrote into.")
    rows = pyarrow.parquet.read_table(write_parquet(folder)).to_pylist()
    good = [row for row in rows if row["error"] is None]
    if not good:
        raise HostError(f"Of {len(rows)} rows in {folder} none has scores: column 'error' of {SCORES} says why.")
    return {name: [row[name] for row in good] for name in good[0]}


def _of_kind(columns: Mapping[str, list], wanted: object) -> dict[str, np.ndarray]:
    """Columns of numbers, those that vary."""
    assert callable(wanted)
    numbers = {}
    for name, values in columns.items():
        if wanted(name) and all(x is None or isinstance(x, (int, float)) for x in values):
            array = np.array([math.nan if x is None else float(x) for x in values])
            if np.isfinite(array).sum() >= LEAST_ROWS and np.nanmin(array) < np.nanmax(array):
                numbers[name] = array
    return numbers


def _is_score(name: str) -> bool:
    return name.split(".")[0].split("@")[0] in SCORE_NODES.values() and not name.endswith("mask_area")


def _is_quality(name: str) -> bool:
    return name.split(".")[0] in QUALITIES


def _about(models: Sequence[str], column: str, scenes: str) -> str:
    """What the correlations are of, and what their intervals are of."""
    of = f" of {len(set(models))} models (column `{column}`)" if column else ""
    drawn = f"scenes (column `{scenes}`), each with all its rows" if scenes else "rows, each by itself"
    return f"{len(models)} rows{of}; in brackets the 95 % bootstrap interval, for which were drawn {drawn}."


def _markdown(table: Table, about: str) -> str:
    """Tables in Markdown."""
    lines = [
        "# Scores against quality",
        "",
        f"Spearman's correlation, {about}",
    ]
    for kind, of_kind in table.items():
        if not of_kind:
            continue
        qualities = list(dict.fromkeys(q for of in of_kind.values() for q in of))
        points = next(iter(next(iter(of_kind.values())).values())).points
        few = ["", f"{points} points: the interval is of what these painted, and says nothing of other models."]
        lines += [
            "",
            f"## {kind[0].upper()}{kind[1:]}",
            *(few if kind == OVER_MODELS else []),
            "",
            f"| score | {' | '.join(qualities)} |",
        ]
        lines += ["|---" * (len(qualities) + 1) + "|"]
        lines += [f"| {s} | {' | '.join(_worded(of.get(q, _NONE)) for q in qualities)} |" for s, of in of_kind.items()]
    return "\n".join(lines) + "\n"


def _worded(one: Estimate) -> str:
    if not math.isfinite(one.value):
        return "-"
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def _of_sets(folder: Path, columns: Mapping[str, list], models: Sequence[str]) -> str:
    """How far each model's pictures are from the right ones as a set, where the run has written them."""
    truth = json.loads((folder / ABOUT).read_text())["truth"]
    made = [folder / "pictures" / f"{name}.png" for name in columns["id"]]
    pairs: dict[str, list[Pair]] = {}
    for path, model, right in zip(made, models, columns.get(truth, [""] * len(made)), strict=True):
        if path.is_file():
            pairs.setdefault(model, []).append((path, Path(right)))
    if not pairs:
        return "\nFID and KID: not computed, since the pictures were not written (--pictures).\n"
    distances = set_distances(pairs)
    if isinstance(distances, str):
        return f"\nFID and KID: {distances}.\n"
    lines = [f"| {m} | {len(pairs[m])} | {x['fid']:.4g} | {x['kid']:.4g} |" for m, x in distances.items()]
    return "\n".join(
        ["", "## Sets of pictures", "", "| model | pictures | FID | KID |", "|---|---|---|---|", *lines, ""]
    )

"""The report: what it says where there is too little, and that its data are JSON."""

import json
import math

import pytest

from devenv import HostError
from evaluation.report import LEAST_ROWS, write_report
from evaluation.store import LINES


def written(folder, rows):
    (folder / LINES).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "run.json").write_text('{"truth": ""}')
    return folder


def test_scores_and_qualities_of_other_rows(tmp_path):
    """Some rows have a score, others a measure of quality, and none has both."""
    rows = [{"id": f"a{n}", "error": None, "imacs.r2g.score": n / 10} for n in range(LEAST_ROWS)]
    rows += [{"id": f"b{n}", "error": None, "psnr": 20.0 + n} for n in range(LEAST_ROWS)]
    with pytest.raises(HostError, match=f"has {LEAST_ROWS} rows in common"):
        write_report(written(tmp_path, rows))


def test_a_correlation_that_is_no_number_is_null(tmp_path):
    """Within a model all of whose rows have one score there is none."""
    rows = [
        {"id": f"{model} {n}", "error": None, "model": model, "imacs.r2g.score": model / 10, "psnr": 20.0 + n + model}
        for model in range(3)
        for n in range(LEAST_ROWS)
    ]
    _, data, _ = write_report(written(tmp_path, rows))

    def refused(text):
        raise AssertionError(text)

    table = json.loads(data.read_text(), parse_constant=refused)
    assert table["within a model"]["imacs.r2g.score"]["psnr"]["value"] is None
    assert math.isfinite(table["over models"]["imacs.r2g.score"]["psnr"]["value"])

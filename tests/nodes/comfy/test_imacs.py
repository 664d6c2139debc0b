"""What I2AM IMACS reports beside the score of the paper."""

import dataclasses
import json

import pytest
import torch
from taken_apart import small

import i2am_core
from i2am_pack.i2am_core import MapKind, Selection, imacs, load, maps, share_inside
from i2am_pack.nodes.imacs import I2AMIMACS

MASK = torch.tensor([[[1.0, 1, 0, 0]] * 3])


@pytest.fixture
def run(tmp_path):
    """As the pack knows it: a run that was made by the core alone is of its classes."""
    path = tmp_path / "run.i2am.safetensors"
    i2am_core.save(small(), path)
    return load(path)


def reported(run):
    given = dict(scope="auto", penalty=3.0, threshold=0.4, steps="all", layers="all", heads="all", reference=0, item=0)
    return json.loads(I2AMIMACS.execute(run, inpainting_mask=MASK, **given).args[2])


def test_the_score_by_share_stands_beside_that_of_the_paper(run):
    r2g = reported(run)["r2g"]
    values = maps(run, MapKind("r2g", "share"), selection=Selection()).values[0]
    assert r2g["by_share"]["mass_inside"] == pytest.approx(share_inside(values, MASK[0]), abs=1e-3)
    large = torch.nn.functional.interpolate(MASK[None], scale_factor=128)[0, 0]
    assert r2g["by_share"]["score"] == pytest.approx(imacs(values, large), abs=1e-3)
    assert r2g["by_share"]["score"] != r2g["score"]


def test_a_reference_that_is_all_there_is_to_look_at_has_none_by_share(run):
    entries = {
        place: dataclasses.replace(x, maps={**x.maps, "r2g_share": torch.ones_like(x.maps["r2g_share"])})
        for place, x in run.entries.items()
    }
    assert "by_share" not in reported(dataclasses.replace(run, entries=entries))["r2g"]

"""Files of an earlier version load, and answer every level that they had then."""

import json
from pathlib import Path

import pytest
from asked import maps

from i2am_core.files import load

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "attributions"
LEVELS = json.loads((FOLDER / "levels.json").read_text())
PATHS = {name: FOLDER / f"{name.replace(' ', '_')}.i2am.safetensors" for name in LEVELS}


def test_there_is_one_of_each_mechanism():
    mechanisms = {name for path in PATHS.values() for name in load(path).mechanism.split(", ")}
    assert len(mechanisms) == 10
    assert set(FOLDER.glob("*.safetensors")) == set(PATHS.values())


@pytest.mark.parametrize("name", LEVELS)
def test_every_level_that_there_was_has_its_maps(name):
    attribution = load(PATHS[name])
    assert attribution.entries and LEVELS[name]
    for question, (shape, labels) in LEVELS[name].items():
        reference, direction, level = question.split()
        result = maps(attribution, direction, level, reference=int(reference))
        assert list(result.values.shape) == shape, question
        assert result.values.isfinite().all() and result.values.min() >= 0, question
        # Of reference-only, the first picture of the batch is the reference itself, in which it does not act.
        assert (result.values.max() > 0) == (name != "reference-only"), question
        if level != "reference":  # these say how large a share is, in numbers
            assert result.labels == labels, question

"""The part 'definitions' in its short form."""

import re

import pytest
import torch

MOST = 2e-6  # relative: float32 against 64 bits


@pytest.fixture(scope="module")
def definitions():
    from i2am_pack.validation.parts import definitions

    return definitions


@pytest.fixture(scope="module")
def section(definitions, lab):
    return definitions.run(lab)


def results_of(definitions, lab):
    return {
        name: lab.stored(f"definitions, {study.subject.key}", lambda: pytest.fail("computed anew"))
        for name, study in lab.studies.items()
    }


def test_every_map_is_that_of_the_definitions(definitions, lab, section):
    for result in results_of(definitions, lab).values():
        differences = definitions._differences_of(result)
        assert len(differences) == 6 * 4 + 2 + 3  # kinds by levels, regions both ways, scores
        assert all(x.shape == (lab.scenes,) for x in differences.values())
        assert max(x.max() for x in differences.values()) < MOST


def test_the_comparison_sees_a_difference(definitions, lab, monkeypatch):
    """Were our maps of other queries, it would say so."""
    study = lab.joint
    own = definitions.calls_of
    monkeypatch.setattr(definitions, "calls_of", lambda study, part: own(study, (part + 1) % len(study.scenes.mask)))
    differences = definitions._differences_of(definitions._of_study(study))
    assert all(x.max() > 1e-3 for name, x in differences.items() if name.endswith("ULAM"))


def test_variants_change_what_they_are_to_change(definitions, lab, section):
    cross, joint = results_of(definitions, lab).values()
    assert not torch.equal(cross["map, clamped each, R2G"], cross["map, ours, R2G"])  # layers of two grids
    torch.testing.assert_close(joint["map, clamped each, R2G"], joint["map, ours, R2G"])  # all of one
    torch.testing.assert_close(joint["map, side by side, G2R"], joint["map, ours, G2R"])
    for result in (cross, joint):
        assert (result["score, mask first, G2R"] >= result["score, ours, G2R"]).all()  # nothing outside is left
        assert (result["score, 1 - map, R2G"] != result["score, ours, R2G"]).all()


def test_the_page_says_the_largest_difference(section):
    (verdict,) = section.verdicts.values()
    assert all(float(x) < MOST for x in re.findall(r"\d\.\de-\d+", verdict)) and verdict.count("e-") == 2
    tables = [text for text in section.text if "| --- |" in text]
    assert len(tables) == 3
    assert all(text.isascii() for text in section.text)

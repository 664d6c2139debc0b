"""The part 'identifiability' in its short form: a constant on all keys changes nothing but R2G of the paper."""

import re

import pytest
import torch


@pytest.fixture(scope="module")
def identifiability():
    from i2am_pack.validation.parts import identifiability

    return identifiability


@pytest.fixture(scope="module")
def tried(identifiability, lab):
    return {name: identifiability._tried(lab, study) for name, study in lab.studies.items()}


def test_the_model_is_the_same(tried):
    for model in tried.values():
        for after in model.after.values():
            torch.testing.assert_close(after["image"], model.before["image"], atol=2e-5, rtol=0)
            assert 0 < after["probabilities"].max() < 1e-4  # rounding, and so the keys did change


def test_maps_of_probabilities_and_predictions_stay_and_r2g_does_not(tried):
    for model in tried.values():
        for which, after in model.after.items():
            for key in model.keys.values():
                alike = model.alike(key, which)
                assert (alike > 0.999).all() if key != "r2g_paper" else (alike < 0.99).all(), (which, key)
            for key in ("r2g_share", "g2r_share", "g2r_paper"):
                torch.testing.assert_close(after[key], model.before[key], atol=1e-5, rtol=1e-3)


def test_share_is_left_out_where_there_is_nothing_beside(tried):
    assert "r2g_share" not in tried["cross-attention"].keys.values()
    assert "r2g_share" in tried["joint attention"].keys.values()


def test_the_section(identifiability, lab, tried):
    section = identifiability.run(lab)
    (verdict,) = section.verdicts.values()
    every_other = re.search(r"every other map at least (\d\.\d+)", verdict)
    assert every_other and float(every_other[1]) >= 0.999, verdict  # machines differ in the digits behind
    assert sum("| --- |" in text for text in section.text) == 4, "what was tried, and guesses, of each model"

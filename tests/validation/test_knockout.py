"""The part 'knockout': known answers of its statistics, and its short form."""

import pytest
import torch


@pytest.fixture(scope="module")
def knockout():
    from i2am_pack.validation.parts import knockout

    return knockout


def layers_of(knockout, masses, changes):
    changes = torch.tensor(changes)
    return knockout.Layers(["a", "b", "c"], changes, changes.sum(1), {}, {"mass": torch.tensor(masses)})


def test_agreement_by_known_answers(knockout):
    changes = [[0.1, 0.2, 0.3], [0.0, 0.1, 0.4]]
    assert layers_of(knockout, [[0.2, 0.3, 0.5]] * 2, changes).agreement("mass") == "1.00 [1.00, 1.00]"
    assert layers_of(knockout, [[0.5, 0.3, 0.2]] * 2, changes).agreement("mass") == "-1.00 [-1.00, -1.00]"


def test_masses_that_differ_by_the_border_alone_say_nothing(knockout):
    layers = layers_of(knockout, [[0.3333, 0.3334, 0.3335]] * 2, [[0.1, 0.2, 0.3]] * 2)
    assert layers.agreement("mass") == "none (all layers weigh the same)"


def test_layers_that_differ_by_the_border_alone_have_one_rank(knockout):
    masses = [[0.3010, 0.3015, 0.3975], [0.3010, 0.3015, 0.3975]]
    layers = layers_of(knockout, masses, [[0.1, 0.2, 0.3]] * 2)
    assert layers.agreement("mass") == "0.87 [0.87, 0.87]"  # of ranks 1.5, 1.5, 3 with 1, 2, 3
    assert layers_of(knockout, masses, [[0.2, 0.1, 0.3]] * 2).agreement("mass") == "0.87 [0.87, 0.87]"


def test_the_least_layers_and_those_that_are_more_than_all(knockout):
    changes = torch.tensor([[0.3, 0.1, 0.2]] * 2)
    masses = {knockout.PAPER: torch.tensor([[0.25, 0.5, 0.25]] * 2)}
    layers = knockout.Layers(["a", "b", "c"], changes, torch.tensor([0.25, 0.25]), {}, masses)
    assert layers.least == (["b"], 0.5)
    assert layers.more_than_all == ["a (+0.050 [+0.050, +0.050])"]


@pytest.fixture(scope="module")
def models(knockout, lab):
    return {name: knockout._layers(lab, study) for name, study in lab.studies.items()}


def test_each_layer_is_muted_alone(knockout, lab, models):
    for layers in models.values():
        assert layers.changes.shape == (lab.scenes, len(layers.names))
        assert (layers.changes > 0).all()
        assert len({tuple(x) for x in layers.changes.T.tolist()}) == len(layers.names)


def test_all_layers_together_are_the_reference_taken_away(lab, models):
    for name, study in lab.studies.items():
        without, where = study.pictures(study.without), study.scenes.mask[study.order]
        plain = lab.stored(f"knockout, plain, {study.subject.key}", lambda: pytest.fail("computed anew"))["image"]
        torch.testing.assert_close(models[name].of_all, study.distance(without, plain, where), atol=1e-5, rtol=1e-4)


def test_parts_of_the_map_sum_to_one(knockout, models):
    for layers in models.values():
        for mass in (knockout.PAPER, knockout.INSIDE):
            torch.testing.assert_close(layers.masses[mass].sum(1), torch.ones(len(layers.changes)))
    assert knockout.SHARE not in models["cross-attention"].masses
    assert knockout.SHARE in models["joint attention"].masses


def test_the_section(knockout, lab, models):
    section = knockout.run(lab)
    assert list(section.figures) == ["layers"]
    assert "{layers}" in section.text
    assert any("none (all layers weigh the same)" in text for text in section.text)  # joint: one grid
    assert "0.005" in section.text[0]
    verdict = section.verdicts[knockout.QUESTION]
    assert knockout.PAPER not in verdict and "interval" in verdict
    for name, layers in models.items():
        assert f"{name} ({len(layers.names)} layers), {knockout.INSIDE} " in verdict

"""Scores whose answer is known, and the part in its short form."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from i2am_pack.demo import data
from i2am_pack.demo.evaluate import sprites
from i2am_pack.validation import observed
from i2am_pack.validation.lab import digest
from i2am_pack.validation.parts import imacs

BETWEEN, NOISES = 0, 3
SETTINGS = ({"step": 1, "seed": 0, "steps": 9}, {"step": 5, "seed": 0, "steps": 5})


@pytest.fixture
def scenes():
    return data.draw_scenes(sprites.held_out_sprites()[:4], torch.Generator().manual_seed(1))


def test_maps_that_say_the_same_of_both_pictures_are_consistent(scenes):
    """A map that rises along the reference, and the same values where the picture has what the reference has there."""
    slope, order = torch.tensor([1.0, 2.0]), torch.tensor([2, 0])
    centre = (torch.arange(data.GRID) + 0.5) * data.PATCH
    g2r = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), -1) @ slope
    r2g = scenes.reference_position()[order] @ slope
    same = imacs.consistency(r2g, g2r.expand(2, -1, -1), scenes, order)
    assert (same > 0.97).all()
    torch.testing.assert_close(imacs.consistency(r2g, -g2r.expand(2, -1, -1), scenes, order), -same)
    of_another_scene = imacs.consistency(r2g.flip(-1), g2r.expand(2, -1, -1), scenes, order)
    assert (of_another_scene < same - 0.1).all()


def test_qualities_are_of_the_mask(lab):
    study = lab.cross
    truth, mask = study.scenes.image[study.order], study.scenes.mask[study.order]
    outside = imacs.qualities(study, truth + 0.5 * (1 - mask))
    assert torch.isinf(outside["PSNR"]).all() and (outside["L1"] == 0).all()
    inside = imacs.qualities(study, truth + 0.1 * mask)
    torch.testing.assert_close(inside["PSNR"], torch.full((2,), 20.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(inside["L1"], torch.full((2,), -0.1))
    noisy = imacs.qualities(study, (truth + 0.3 * mask * torch.randn(truth.shape)).clamp(0, 1))
    assert (noisy["SSIM"] < inside["SSIM"]).all() and (inside["SSIM"] < 1).all()


def test_averages_lie_between_the_files_of_a_training(tmp_path):
    files = [tmp_path / f"{name}.safetensors" for name in "abc"]
    training = observed.Training("cross-attention", None, files)
    for path in (files[0], files[2]):
        path.touch()
    models = training.models(1)
    assert [model.name for model in models] == ["a", "c"], "over what is not here nothing is averaged"
    assert training.lacking == ["b.safetensors"]
    files[1].touch()
    assert [model.name for model in training.models(3)][:5] == [
        "a",
        "75% a + 25% b",
        "50% a + 50% b",
        "25% a + 75% b",
        "b",
    ]


def test_a_file_that_is_there_twice_counts_twice():
    first, second = observed.TRAININGS["cross-attention"].files[:2]
    average = observed.TRAININGS["cross-attention"].models(3)[1]
    model = average.training.subject(*average.weights).model.model.diffusion_model
    name, weight = next(iter(model.named_parameters()))
    one, other = (load_file(path)[f"unet.{name}"].float() for path in (first, second))
    torch.testing.assert_close(weight.detach().float(), 0.75 * one + 0.25 * other)


def test_what_is_observed_is_of_the_weights_that_are_there(tmp_path):
    """A file of another training may have the same name."""
    path, training = tmp_path / "a.safetensors", observed.Training("cross-attention", None, [])
    model, names = observed.Model("a", (path, path), training), []

    class Noting:
        def stored(self, name, make):
            names.append(name)

    for text in (b"one", b"one", b"other"):
        path.write_bytes(text)
        model.observed(Noting())
    assert names[0] == names[1] != names[2]


def test_files_of_a_training_say_in_what_they_differ(tmp_path):
    files = [tmp_path / f"{name}.safetensors" for name in "ab"]
    training = observed.Training("cross-attention", None, files)
    for path, settings in zip(files, SETTINGS, strict=True):
        save_file({"x": torch.zeros(1)}, path, metadata={"training": json.dumps(settings)})
    assert training.differing == {"steps": ["9", "5"]}
    save_file({"x": torch.zeros(1)}, files[1], metadata={"training": json.dumps({"step": 5, "seed": 1, "steps": 9})})
    with pytest.raises(ValueError, match="The files of cross-attention have seeds 0, 1: give those of one"):
        _ = training.differing
    for one in observed.TRAININGS.values():
        assert "seed" not in one.differing


def rows(score, quality):
    """Of a table ``[models, scenes]``."""
    models, scenes = ([f"{n}" for n in of.flatten()] for of in np.indices(score.shape))
    values = {"score": score.flatten(), **{name: quality.flatten() for name in imacs.QUALITIES}}
    return imacs.Rows(values, models, scenes)


def test_what_ranks_models_need_not_rank_scenes_or_seeds():
    draw = np.random.default_rng(0)
    level = 10 * np.arange(8.0)[:, None]
    of_models = rows(*(level + draw.standard_normal((2, 8, 24))))
    over = {
        level: imacs.estimated(of_models, level)["score"]["PSNR"] for level in (imacs._over_models, imacs._over_scenes)
    }
    assert over[imacs._over_models].low > 0.9
    assert over[imacs._over_scenes].low < 0 < over[imacs._over_scenes].high

    level = 10 * np.arange(24.0)  # of scenes, in which seeds go the other way
    own = draw.standard_normal((12, 24))
    of_seeds = imacs.estimated(rows(level + own, level - own), imacs._over_seeds)["score"]["PSNR"]
    assert (of_seeds.value, of_seeds.low, of_seeds.high) == pytest.approx((-1, -1, -1)) and of_seeds.points == 24


def test_the_interval_over_seeds_has_the_truth_in_it():
    """Seeds of each scene have nothing in common: the truth is 0."""
    draw = np.random.default_rng(1)
    made = [imacs.estimated(rows(*draw.standard_normal((2, 12, 16))), imacs._over_seeds) for _ in range(60)]
    inside = [one["score"]["PSNR"].low <= 0 <= one["score"]["PSNR"].high for one in made]
    assert 0.85 <= np.mean(inside) <= 1


def test_scores_that_are_not_there_are_left_out():
    score = np.random.default_rng(0).random((4, 8))
    table = rows(score, score)
    table.values["none"] = np.full(32, np.nan)
    table.values["same"] = np.ones(32)
    estimates = imacs.estimated(table, imacs._over_models)
    assert set(estimates) == {"score", "same"}
    assert imacs._worded(estimates["same"]["PSNR"]) == "-" and imacs._worded(estimates["score"]["PSNR"]).startswith(
        "1.00"
    )


def estimates(**correlations):
    """By score, all of nine points."""
    return {
        score.replace("_", " "): {q: imacs.Estimate(x, x - 0.1, x + 0.1, 9) for q in imacs.QUALITIES}
        for score, x in correlations.items()
    }


def test_over_models_a_number_is_said_and_over_scenes_an_answer():
    of = {"cross-attention": estimates(IMACS_of_R2G=0.8, strength_of_the_effect=0.05) | {
        imacs.PLACE: estimates(x=1.0)["x"]}}  # fmt: skip
    assert imacs._verdict("models", of) == (
        "cross-attention, 9 models of one training: IMACS of R2G 0.80 [0.70, 0.90], "
        "strength of the effect 0.05 [-0.05, 0.15], guess: place in the training 1.00 [0.90, 1.10]"
    )
    for level in ("scenes", "seeds"):
        assert imacs._verdict(level, of) == (
            "cross-attention: IMACS of R2G does (0.80 [0.70, 0.90]), "
            "strength of the effect not shown (0.05 [-0.05, 0.15]); "
            "the strongest guess, place in the training (1.00 [0.90, 1.10])"
        )


def test_correlations_over_models_are_not_counted_against_chance():
    sure, unsure = {"a": estimates(one=0.5, two=-0.5)}, {"a": estimates(one=0.5, two=0.05)}
    said = imacs._chance({"models": sure, "scenes": unsure, "seeds": unsure})
    assert said.startswith(
        "Of 4 correlations of scores with PSNR over scenes and over seeds, those of guesses left out, the interval of 2"
    )


def test_the_place_in_the_training_ranks_whatever_moves_with_it(lab, monkeypatch):
    truth = lab.cross.scenes.image[lab.cross.order]
    monkeypatch.setattr(imacs, "scores", lambda study, of: {})

    class Painting:
        def __init__(self, number):
            self.name, self.number = f"{9 - number}", number  # the order of names is not that of the training

        def observed(self, lab, noise):
            return {"image": (truth + (5 - self.number) / 20).clamp(0, 1)}

    of = imacs.rows_of(lab, lab.cross, [(Painting(n), 0) for n in range(4)])
    assert of.values[imacs.PLACE].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert imacs.estimated(of, imacs._over_models)[imacs.PLACE]["PSNR"].value == pytest.approx(1)
    assert np.isnan(imacs.estimated(of, imacs._over_scenes)[imacs.PLACE]["PSNR"].value)


@pytest.mark.timeout(300)
def test_the_part(lab, request, monkeypatch):
    monkeypatch.setattr(imacs, "BETWEEN", BETWEEN)
    monkeypatch.setattr(imacs, "NOISES", NOISES)
    section = imacs.run(lab)
    text = "\n".join(section.text)
    assert "nan" not in text and set(section.figures) == {"correlations", "models"} and len(section.verdicts) == 3
    for title in imacs.LEVELS.values():
        assert f"### {title}" in text
    assert "Cross-attention: number of models 3;" in text
    for training in observed.TRAININGS.values():
        assert all(f"{path.name} {digest(path)}" in text for path in training.files)
    assert text.count("| consistency of both maps |") == 3
    resumed = request.getfixturevalue("resumed")
    assert imacs.run(resumed).text == section.text

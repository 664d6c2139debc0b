"""The part 'randomization': what is permuted and put back, how maps are compared, and its short form."""

import pytest
import torch


@pytest.fixture(scope="module")
def permuted():
    from i2am_pack.validation import permuted

    return permuted


@pytest.fixture(params=["cross", "joint"])
def subject(request, lab):
    return getattr(lab, request.param).subject


def parameters_of(blocks):
    return [p for _, modules in blocks for module in modules for p in module.parameters()]


def test_blocks_are_all_weights_and_each_once(permuted, subject):
    parameters = parameters_of(permuted.blocks_of(subject))
    model = list(subject.model.model.diffusion_model.parameters())
    model += list(subject.encoder.parameters()) if hasattr(subject, "encoder") else []
    assert len(parameters) == len({id(p) for p in parameters})
    assert {id(p) for p in parameters} == {id(p) for p in model}


def test_weights_are_the_same_numbers_elsewhere_and_are_put_back(permuted, subject):
    blocks = permuted.blocks_of(subject)
    parameters = parameters_of(blocks)
    before = [p.data.clone() for p in parameters]
    with pytest.raises(KeyboardInterrupt), permuted.permuted(blocks[:2]):
        changed = parameters_of(blocks[:2])
        for p, values in zip(parameters, before, strict=True):
            is_changed = any(p is other for other in changed)
            torch.testing.assert_close(p.data.flatten().sort().values, values.flatten().sort().values, rtol=0, atol=0)
            assert is_changed or torch.equal(p.data, values)
        assert any(not torch.equal(p.data, values) for p, values in zip(parameters, before, strict=True))
        raise KeyboardInterrupt
    assert all(torch.equal(p.data, values) for p, values in zip(parameters, before, strict=True))


def test_likeness_by_known_answers(lab):
    from i2am_pack.validation.likeness import ranked_alike, structured_alike

    study, maps = lab.joint, torch.rand(lab.scenes, 16, 16)
    for on_picture in (True, False):
        torch.testing.assert_close(ranked_alike(study, maps, maps.exp(), on_picture), torch.ones(lab.scenes))
        torch.testing.assert_close(ranked_alike(study, maps, -maps, on_picture), -torch.ones(lab.scenes))
        torch.testing.assert_close(structured_alike(study, maps, 3 * maps + 1, on_picture), torch.ones(lab.scenes))
        assert (structured_alike(study, maps, -maps, on_picture) < 0).all()


def test_on_the_picture_the_mask_alone_counts(lab):
    from i2am_pack.validation.likeness import ranked_alike, structured_alike

    study, maps = lab.joint, torch.rand(lab.scenes, 16, 16)
    outside = ~study.in_mask[study.order].view_as(maps)
    other = torch.where(outside, torch.rand_like(maps), maps)
    for alike in (ranked_alike, structured_alike):
        torch.testing.assert_close(alike(study, maps, other, True), torch.ones(lab.scenes))
        assert (alike(study, maps, other, False) < 0.99).all()


def test_a_guess_is_all_like_itself(lab):
    from i2am_pack.validation import baselines
    from i2am_pack.validation.likeness import beside_guesses

    image = lab.joint.measured()["image"]
    maps = {"image": image, "r2g_paper": baselines.on_picture(lab.joint)["object"]}
    maps["g2r_paper"] = baselines.on_reference(lab.joint)["geometry"]
    written = beside_guesses(lab.joint, maps, {"a": "r2g_paper", "b": "g2r_paper"}).splitlines()
    head, (of_picture, of_reference) = written[0].split(" | "), (line.split(" | ") for line in written[2:])
    assert of_picture[head.index("object |")].startswith("1.00 [1.00, 1.00]")
    assert of_reference[head.index("geometry")].startswith("1.00 [1.00, 1.00]")


@pytest.fixture(scope="module")
def randomization():
    from i2am_pack.validation.parts import randomization

    return randomization


@pytest.fixture(scope="module")
def models(randomization, lab):
    return {name: randomization._randomized(lab, name) for name in lab.studies}


def test_nothing_permuted_is_the_trained_model(lab, models):
    for name, study in lab.studies.items():
        torch.testing.assert_close(models[name].trained["image"], study.measured()["image"], atol=1e-5, rtol=0)


def test_all_permuted_paints_nothing_of_it(permuted, models):
    for name, model in models.items():
        blocks = [block for block, _ in permuted.blocks_of(model.study.subject)]
        assert list(model.cascade) == list(model.alone) == blocks, name
        truth, where = model.study.scenes.image[model.study.order], model.study.scenes.mask[model.study.order]
        good, bad = (model.study.distance(x["image"], truth, where) for x in (model.trained, model.random))
        assert (bad > good).all()
        assert model.ranked("g2r_paper", model.random).mean() < 0.3


def test_the_section(randomization, lab, models):
    section = randomization.run(lab)
    assert list(section.figures) == ["cascade"]
    assert sum("<details>" in text for text in section.text) == 2
    assert "one permutation" in section.text[0] and "one permutation" in section.verdicts[randomization.QUESTION]
    assert all(name in section.verdicts[randomization.QUESTION] for name in lab.studies)

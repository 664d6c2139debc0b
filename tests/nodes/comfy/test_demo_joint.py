"""The demo model with two references: stock nodes sample it, and what I2AM says of it is of trained weights."""

import dataclasses
import re

import comfy.ldm.flux.layers as layers
import comfy.ldm.flux.model as flux
import comfy.sample
import comfy.supported_models
import pytest
import torch
import workflow
from mechanisms import capture, steered
from steered_graphs import close, differ
from this_core import JOINT_DEMO

from i2am_pack.demo import data, weights
from i2am_pack.demo.nodes import DemoLoader, DemoReference
from i2am_pack.i2am_core import MapKind, Removal, Selection, maps
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.effect import I2AMEffect

pytestmark = JOINT_DEMO
STEPS = 4
SCENE, OBJECT = 0, 1


@pytest.fixture(scope="module")
def graph():
    return workflow.make_joint()


@pytest.fixture(scope="module")
def attribution(graph):
    return capture(graph, steps=STEPS)


@pytest.fixture(scope="module")
def plain(graph):
    return graph.sample(steps=STEPS)["samples"]


def error(latent, truth, where):
    """Mean square of pixels in ``where [B, H, W]``, for each scene."""
    off = (data.to_image(latent).movedim(1, -1) - truth).square().mean(-1) * where
    return off.flatten(1).sum(1) / where.flatten(1).sum(1)


def square(graph):
    """Which cells are to be painted: ``[cells]``."""
    return torch.nn.functional.avg_pool2d(graph.scene["mask"], data.PATCH).flatten() > 0.5


def test_the_stock_sampler_paints_the_scene_with_the_object_in_it():
    graph = workflow.make_joint(batch=4)
    truth, mask = graph.scene["truth"], graph.scene["mask"]
    own = graph.sample(steps=STEPS)["samples"]
    graph.positive[0][1]["reference_latents"][OBJECT] = graph.vae.encode(graph.scene["reference"].roll(1, 0))
    other = graph.sample(steps=STEPS)["samples"]
    assert (error(own, truth, mask) < error(other, truth, mask)).sum() >= 3
    assert error(own, truth, mask).mean() < error(other, truth, mask).mean() / 1.25  # by 1 dB
    assert error(own, truth, 1 - mask).max() < 0.005  # 23 dB


def test_references_are_located_as_those_of_kontext_are_and_named(attribution):
    assert attribution.mechanism == "reference latents"
    assert [(r.name, str(r.grid)) for r in attribution.references] == [
        ("reference latent 1", "16x16"),
        ("reference latent 2", "16x16"),
    ]
    assert [layer.name for layer in attribution.layers] == ["double 0", *(f"single {n}" for n in range(4))]
    assert attribution.captured_calls == STEPS * len(attribution.layers) and not attribution.skipped


def test_both_references_are_accounted_for(attribution):
    assert [x.line for x in attribution.given] == ["given: 2 reference latents: captured (by reference latents)"]


def test_each_reference_is_looked_at_where_it_is_needed(graph, attribution):
    """The scene around the square, the object in it: no loss was ever on this attention."""
    inside = square(graph)
    scene, object = (
        maps(attribution, MapKind("r2g", "share"), selection=Selection(reference=number)).values[0].flatten()
        for number in (SCENE, OBJECT)
    )
    assert scene[~inside].mean() > 1.25 * scene[inside].mean()
    assert object[inside].mean() > 1.25 * object[~inside].mean()


def test_effect_changes_no_bit_and_puts_the_object_in_the_square(graph, plain):
    """The scene changes the square, too: without it, nothing says where to paint."""
    model, handle = graph.capture(pair_maps="off")
    model = I2AMEffect.execute(model, 1, 0, "taken away", "everything", "references").args[0]
    latent = graph.sample(model, steps=STEPS)
    assert torch.equal(latent["samples"], plain)
    effects = I2AMCollect.execute(handle, latent).args[0].effects
    inside = square(graph)
    scene, object = (effects.maps[Removal(0, number)][0].flatten() for number in (SCENE, OBJECT))
    assert object[inside].mean() > 2 * object[~inside].mean()
    assert scene[~inside].mean() > 2 * object[~inside].mean()


def test_without_the_object_it_is_the_hosts_own_run_of_the_scene_alone(graph, plain):
    """The object is the second, so that leaving it out moves no position of the picture or the scene."""
    muted = graph.sample(steered(graph.model, 0.0, reference=OBJECT), steps=STEPS)["samples"]
    alone = workflow.make_joint(["scene"]).sample(steps=STEPS)["samples"]
    differ(muted, plain)
    close(muted, alone)


def test_without_the_scene_it_is_no_run_of_the_object_alone(graph, plain):
    """Alone, the object would have the positions of the first reference; muting the scene leaves it at its own."""
    muted = graph.sample(steered(graph.model, 0.0, reference=SCENE), steps=STEPS)["samples"]
    differ(muted, plain)
    differ(muted, workflow.make_joint(["reference"]).sample(steps=STEPS)["samples"])


def test_without_both_it_is_a_run_of_the_prompt_alone(graph):
    muted = graph.sample(steered(graph.model, 0.0), steps=STEPS)["samples"]
    close(muted, workflow.make_joint([]).sample(steps=STEPS)["samples"])


def test_demo_reference_says_what_to_do_in_its_place():
    encoder = DemoLoader.execute(weights.JOINT).args[2]
    with pytest.raises(ValueError, match="first for the scene, then for the object") as caught:
        DemoReference.execute(encoder, torch.rand(1, 64, 64, 3))
    assert str(caught.value).count(".") == 1 and str(caught.value).endswith(".")


def test_the_empty_prompt_of_the_first_model_is_its_negative():
    """Of the tokens that I2AM Demo Reference gives, none is left."""
    _, _, encoder, empty_prompt = DemoLoader.execute().args
    ((tokens, _),) = DemoReference.execute(encoder, torch.rand(1, 64, 64, 3)).args[0]
    ((none, about),) = empty_prompt
    assert torch.equal(none, torch.zeros_like(tokens)) and about == {}


def test_a_model_without_its_file_is_no_choice(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "JOINT_MODELS", {weights.JOINT: (tmp_path / "joint_weights.safetensors",)})
    assert weights.SHIPPED in weights.models() and weights.JOINT not in weights.models()
    with pytest.raises(ValueError, match=r"is 'two references \(joint attention\)': choose one of shipped"):
        DemoLoader.execute(weights.JOINT)


def test_an_older_comfyui_has_the_other_model_alone(monkeypatch):
    """Before 0.3.72 its Flux has not the form of this one."""

    @dataclasses.dataclass
    class OlderParams:
        hidden_size: int

    monkeypatch.setattr("comfy.ldm.flux.model.FluxParams", OlderParams)
    assert weights.SHIPPED in weights.models() and weights.JOINT not in weights.models()


def test_a_newer_comfyui_is_told_that_tokens_of_the_text_have_no_places(monkeypatch):
    """Since 0.3.76 its Flux must be told along which axes they have: before, it was none."""

    @dataclasses.dataclass
    class NewerParams(flux.FluxParams):
        txt_ids_dims: list = dataclasses.field(kw_only=True)

    monkeypatch.setattr(flux, "FluxParams", NewerParams)
    loaded, *_ = DemoLoader.execute(weights.JOINT).args
    assert loaded.model.diffusion_model.params.txt_ids_dims == []


def test_a_newer_comfyui_has_other_names_for_weights(monkeypatch, graph, plain):
    """Its norms are PyTorch's own, whose scale is called weight; it says so in its configuration of Flux."""

    def renamed(self, weights):
        return {re.sub(r"_norm\.scale$", "_norm.weight", name): weight for name, weight in weights.items()}

    def norm(dim, dtype, device, operations):
        return torch.nn.RMSNorm(dim, 1e-6, dtype=dtype, device=device)

    monkeypatch.setattr(layers, "RMSNorm", norm, raising=False)
    monkeypatch.setattr(comfy.supported_models.Flux, "process_unet_state_dict", renamed)
    newer, *_ = DemoLoader.execute(weights.JOINT).args
    assert "double_blocks.0.img_attn.norm.query_norm.weight" in newer.model.diffusion_model.state_dict()
    close(graph.sample(newer, steps=STEPS)["samples"], plain)


@pytest.mark.parametrize(
    ("name", "tokens", "latent", "said"),
    [
        (weights.JOINT, 128, 48, "tokens of 128 numbers, and the demo model with two references reads those of 8"),
        (weights.JOINT, 8, 16, "has 16 channels, and the demo model with two references reads 48: encode"),
        (weights.SHIPPED, 8, 48, "tokens of 8 numbers, and the demo model with one reference reads those of 128"),
    ],
)
def test_what_is_of_another_model_is_refused_in_words(name, tokens, latent, said):
    model, *_ = DemoLoader.execute(name).args
    positive = [[torch.zeros(1, 8, tokens), {"reference_latents": [torch.zeros(1, latent, 16, 16)]}]]
    clean = torch.zeros(1, 48, 16, 16)
    with pytest.raises(ValueError, match=said):
        comfy.sample.sample(
            model, clean, 1, 1.0, "euler", "normal", positive, positive, clean, seed=0, disable_pbar=True
        )

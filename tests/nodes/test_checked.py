"""What a node is given is checked before it runs: one sentence that names the input, what came, and what to connect."""

import math

import pytest
import torch
import workflow

from i2am_pack.demo.nodes import DemoReference, DemoScene
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.imacs import I2AMIMACS
from i2am_pack.nodes.ip_adapter_reference import I2AMIPAdapterReference
from i2am_pack.nodes.maps import I2AMMaps
from i2am_pack.nodes.specific_reference import I2AMSpecificReference
from i2am_pack.nodes.steer import I2AMSteer
from i2am_pack.nodes.tag_reference import I2AMTagReference
from i2am_pack.nodes.viewer import I2AMViewer

SELECTION = {"steps": "all", "layers": "all", "heads": "all", "reference": 0, "item": 0}
MAPS = {
    "direction": "reference to generated", "level": "unified", "normalization": "paper", "scope": "auto",
    "time_groups": 2, "colormap": "jet", "scale": "each map", "opacity": 0.5, **SELECTION,
}  # fmt: skip


@pytest.fixture(scope="module")
def attribution():
    return workflow.make().attribution()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attribution": 5}, "attribution of I2AM Maps is 5: connect I2AM Collect or I2AM Load."),
        ({"attribution": None}, "attribution of I2AM Maps is nothing: connect"),
        ({"attribution": {}}, "attribution of I2AM Maps is a dict: connect"),
        ({"image": "a path"}, "image of I2AM Maps is 'a path': connect an IMAGE"),
        ({"image": torch.rand(1, 64, 64, 1)}, r"image of I2AM Maps is a tensor of shape \(1, 64, 64, 1\) of float32"),
        ({"image": torch.rand(0, 64, 64, 3)}, r"a tensor of shape \(0, 64, 64, 3\) of float32: connect an IMAGE"),
        ({"image": torch.ones(1, 64, 64, 3, dtype=torch.uint8)}, "of uint8: connect an IMAGE"),
        ({"image": torch.empty(1, 64, 64, 3, device="meta")}, "of float32 without data: connect an IMAGE"),
        ({"direction": "sideways"}, "direction of I2AM Maps is 'sideways': choose one of reference to generated, gen"),
        ({"scale": ["each map"]}, "scale of I2AM Maps is a list: choose one of each map, shared"),
        ({"colormap": {}}, "colormap of I2AM Maps is a dict: choose one of"),
        ({"colormap": "no such map"}, "matplotlib has no colormap 'no such map'"),
        ({"opacity": math.nan}, "opacity of I2AM Maps is nan: give a number."),
        ({"opacity": torch.ones(2)}, "opacity of I2AM Maps is a tensor"),
        ({"reference": 0.5}, "reference of I2AM Maps is 0.5: give a whole number."),
        ({"steps": 3}, "steps of I2AM Maps is 3: give a text"),
        ({"steps": "x" * 20_000}, "steps of I2AM Maps is a text of 20000 letters: give a text of at most 10000"),
        ({"steps": "\ud800"}, r"steps of I2AM Maps is '\\ud800': give a text"),
    ],
)
def test_the_sentence_names_the_input(attribution, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        I2AMMaps.execute(**{"attribution": attribution, **MAPS, **changes})
    assert str(caught.value).isprintable() and str(caught.value).endswith(".")


def test_what_fits_passes(attribution):
    image = torch.rand(1, 64, 64, 4)
    colored = MAPS | {"colormap": "twilight"}  # more than the page's list
    assert I2AMMaps.execute(attribution, **colored, image=image).args[0].shape == (1, 64, 64, 3)
    assert I2AMMaps.execute(attribution, **MAPS, image=None).args[0].shape[0] == 1


@pytest.mark.parametrize(
    ("node", "given", "message"),
    [
        (I2AMCapture, {"model": 1, "mechanism": "auto", "branch": "both", "pair_maps": "off", "budget_mb": 5},
         "branch of I2AM Capture is 'both': choose one of positive, negative."),
        (I2AMCollect, {"capture": "c", "samples": {}}, "capture of I2AM Collect is 'c': connect I2AM Capture"),
        (I2AMIMACS, {"attribution": "a", "scope": "auto", "penalty": 1.0, "threshold": 0.1, **SELECTION},
         "attribution of I2AM IMACS is 'a'"),
        (I2AMSpecificReference, {"attribution": "a", "region": "r", "direction": "d", "colormap": "jet",
                                 "opacity": 0.5, **SELECTION}, "attribution of I2AM Specific Reference is 'a'"),
        (I2AMIPAdapterReference, {"capture": 1, "ipadapter": {}, "image": 0}, "capture of I2AM IPAdapter Reference is"),
        (I2AMTagReference, {"conditioning_before": [[None, {}]], "conditioning_after": []},
         "conditioning_before of I2AM Tag Reference is a list: connect a CONDITIONING"),
        (I2AMViewer, {"attribution": [1]}, "attribution of I2AM Viewer is a list"),
        (DemoScene, {"object": "x", "seed": 0, "batch": 1}, "object of I2AM Demo Scene is 'x'"),
        (DemoReference, {"encoder": len, "image": torch.rand(1, 64, 64, 3)}, "connect I2AM Demo Model"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)  # fmt: skip
def test_every_node_checks(node, given, message):
    with pytest.raises(ValueError, match=message):
        node.execute(**given)


def test_an_optional_input_that_is_null_is_not_there(attribution):
    """A graph that a script sends may say so. Its default counts."""
    left_out, null = (
        I2AMMaps.execute(attribution, **MAPS, **changes).args
        for changes in ({}, {"image": None, "effect_of": None, "effect_through": None})
    )
    assert torch.equal(left_out[0], null[0]) and left_out[3] == null[3]
    with pytest.raises(ValueError, match="no effect was measured in this run"):
        I2AMMaps.execute(attribution, **MAPS | {"normalization": "effect"}, effect_of=None)


def test_steer_checks():
    model = workflow.make().model
    given = {"model": model, "strength": 1.0, "by": "attention", "reference": -1, "through": "everything",
             "branch": "both", "steps": "all", "layers": "all", "heads": "all", "mechanism": "auto"}  # fmt: skip
    with pytest.raises(ValueError, match="reference_region of I2AM Steer is 'm': connect a MASK"):
        I2AMSteer.execute(**given, reference_region="m")
    with pytest.raises(ValueError, match="by of I2AM Steer is 'magic': choose one of attention, output, guidance"):
        I2AMSteer.execute(**given | {"by": "magic"})


@pytest.mark.parametrize(
    ("vae", "said"),
    [
        ("vae.safetensors", "'vae.safetensors'"),
        (b"decode", "a bytes"),
        (5, "5"),
        ({}, "a dict"),
        (object(), "an object"),
    ],
)
def test_the_viewer_takes_a_vae(attribution, vae, said):
    with pytest.raises(ValueError, match=f"vae of I2AM Viewer is {said}: connect the VAE with which the workflow"):
        I2AMViewer.execute(attribution, vae=vae)


def test_several_latents_in_one_are_refused():
    from comfy.nested_tensor import NestedTensor

    graph = workflow.make()
    _, handle = graph.capture()
    several = {"samples": NestedTensor([torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 4, 4)])}
    with pytest.raises(ValueError, match=r"several latents in one.*sample them one by one"):
        I2AMCollect.execute(handle, several)

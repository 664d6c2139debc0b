"""The tokens of an IP-Adapter Plus on the patches of its image: p @ S, of the right image, and said to be approximate.

Each test also runs on the real pack where ``IPADAPTER_PLUS_PATH`` names its folder.
"""

import json

import comfy.clip_vision
import ip_adapter_standin
import pytest
import tiny_graphs
import tiny_models
import torch
from ip_adapter_standin import SETTINGS, WEIGHT

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.i2am_core.attention.rollout import resample, rollout
from i2am_pack.i2am_core.files import load, save
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.comfy.handle import Capture, Settings
from i2am_pack.nodes.imacs import I2AMIMACS
from i2am_pack.nodes.ip_adapter_reference import I2AMIPAdapterReference
from i2am_pack.nodes.maps import I2AMMaps
from i2am_pack.nodes.specific_reference import I2AMSpecificReference

CLIP = {
    "model_type": "clip_vision_model",
    "num_hidden_layers": 3,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "hidden_act": "gelu",
    "num_channels": 3,
    "patch_size": 14,
    "image_size": 224,
    "projection_dim": 4,
}


@pytest.fixture(params=ip_adapter_standin.packs(), ids=lambda pack: type(pack).__name__)
def pack(request):
    return request.param


@pytest.fixture(scope="module")
def vision(tmp_path_factory):
    """The host's CLIP vision: 16 x 16 patches, as ViT-H has them, of few numbers each."""
    config = tmp_path_factory.mktemp("clip") / "config.json"
    config.write_text(json.dumps(CLIP))
    model = comfy.clip_vision.ClipVisionModel(str(config))
    tiny_models.fill(model.model)
    return model


class Run:
    """A run with IP-Adapters, one for each batch of images, and its capture."""

    def __init__(self, pack, vision, *batches, adapters=None, pair_maps="off", change=None, settings=None, **shape):
        graph = tiny_graphs.sd15_text(**shape)
        self.adapters = adapters or [ip_adapter_standin.weights(plus=True, seed=n) for n in range(len(batches))]
        for adapter, images in zip(self.adapters, batches, strict=True):
            seen = pack.encode(vision, images), pack.encode(vision, torch.zeros_like(images))
            graph.model = pack.apply(graph.model, adapter, *seen, False, **SETTINGS | (settings or {}))
        if change:
            change(graph)
        watched, self.handle = I2AMCapture.execute(graph.model, "IP-Adapter", "positive", pair_maps, 512).args
        self.latent = graph.sample(watched)

    @property
    def captured(self):
        return self.handle.find(self.latent["samples"])

    def collect(self, handle):
        return I2AMCollect.execute(handle, self.latent).args[0]


def patches_in(model):
    return model.model_options["transformer_options"]["patches_replace"]["attn2"].values()


def refer(handle, adapter, image, vision):
    return I2AMIPAdapterReference.execute(handle, adapter, image, vision).args[0]


def shares_of_patches(pack, vision, adapter, image):
    """S of one image without its class token, in float64."""
    made = resample(adapter["image_proj"], pack.encode(vision, image).double())
    return rollout(made.attentions)[0, :, 1:]


def assert_spread(attribution, before, reference, patches):
    assert attribution.references[reference].grid == TokenGrid(16, 16)
    for layer in range(len(before.layers)):
        tokens, maps = before.layer_maps(reference, layer).maps, attribution.layer_maps(reference, layer).maps
        for name, values in maps.items():
            if name.startswith("r2g"):
                assert torch.equal(values, tokens[name])
                continue
            expected = tokens[name].double() @ patches
            if "paper" in name:
                expected = expected / expected.sum(-1, keepdim=True)
            torch.testing.assert_close(values.double(), expected, rtol=1e-4, atol=1e-8)


def test_maps_lie_on_the_patches(pack, vision, tmp_path):
    image = tiny_graphs.pixels(1, 1, 224, 336)
    run = Run(pack, vision, image, batch=2)
    attribution = run.collect(refer(run.handle, run.adapters[0], image, vision))
    before = run.captured
    assert [r.grid for r in before.references] == [None] and not before.pictures  # the capture is as it was
    assert_spread(attribution, before, 0, shares_of_patches(pack, vision, run.adapters[0], image))
    assert "256 tokens, grid 16x16, approximate" in attribution.summary()
    assert any("class token" in note for note in attribution.notes)
    middle = image[0, :, 56:280]
    torch.testing.assert_close(attribution.pictures["reference 0"] / 255.0, middle, rtol=0, atol=1 / 255)

    save(attribution, tmp_path / "run.i2am.safetensors")
    loaded = load(tmp_path / "run.i2am.safetensors")
    assert loaded.references == attribution.references and loaded.references[0].approximate


def test_each_image_has_its_reference(pack, vision):
    """Two adapters, the second of two images; the nodes in the other order."""
    first, second = tiny_graphs.pixels(1, 1, 224, 224), tiny_graphs.pixels(2, 2, 224, 224)
    run = Run(pack, vision, first, second)
    handle = refer(run.handle, run.adapters[1], second, vision)
    attribution = run.collect(refer(handle, run.adapters[0], first, vision))
    names = ["IP-Adapter 1", "IP-Adapter 2, image 1", "IP-Adapter 2, image 2"]
    assert [(r.name, r.approximate) for r in attribution.references] == [(name, True) for name in names]
    images = [(0, first), (1, second[:1]), (1, second[1:])]
    for number, (adapter, image) in enumerate(images):
        assert_spread(attribution, run.captured, number, shares_of_patches(pack, vision, run.adapters[adapter], image))
        seen = attribution.pictures[f"reference {number}"] / 255.0
        torch.testing.assert_close(seen, image[0], rtol=0, atol=1 / 255)


def test_only_what_is_connected_is_rolled_out(pack, vision):
    first, second = tiny_graphs.pixels(1, 1, 224, 224), tiny_graphs.pixels(2, 1, 224, 224)
    run = Run(pack, vision, first, second)
    attribution = run.collect(refer(run.handle, run.adapters[1], second, vision))
    assert [r.grid for r in attribution.references] == [None, TokenGrid(16, 16)]
    with pytest.raises(ValueError, match="without a spatial layout"):
        show(attribution, reference=0)


def test_one_image_of_two_adapters(pack, vision):
    image, adapter = tiny_graphs.pixels(1, 1, 224, 224), ip_adapter_standin.weights(plus=True)
    run = Run(pack, vision, image, image, adapters=[adapter, adapter])
    attribution = run.collect(refer(run.handle, adapter, image, vision))
    assert [r.approximate for r in attribution.references] == [True, True]


def test_the_image_of_the_composition_is_another(pack, vision):
    """IPAdapter Style & Composition gives some layers tokens of their own: here those of the output blocks."""
    style, composition = tiny_graphs.pixels(1, 2, 224, 224).split(1)
    adapter = ip_adapter_standin.weights(plus=True)
    second = ip_adapter_standin.project(adapter, pack.encode(vision, composition))

    def with_second(graph):
        for patch in patches_in(graph.model):
            patch.kwargs[0] |= {"weight": {0: WEIGHT, 6: WEIGHT}, "cond_alt": {6: second}}

    run = Run(pack, vision, style, adapters=[adapter], change=with_second)
    attribution = run.collect(refer(run.handle, adapter, torch.cat([composition, style]), vision))
    assert [r.name for r in attribution.references] == ["IP-Adapter", "IP-Adapter, composition image"]
    assert sorted(attribution.entries) == [(0, 0), (0, 1), (1, 0), (1, 1)]  # each is off where the other is
    assert not any(attribution.layer_maps(n, 1 - n).maps["g2r_share"].any() for n in range(2))
    for number, image in enumerate((style, composition)):
        seen = attribution.pictures[f"reference {number}"] / 255.0
        torch.testing.assert_close(seen, image[0], rtol=0, atol=1 / 255)
        patches = shares_of_patches(pack, vision, adapter, image)
        before = run.captured.layer_maps(number, number).maps["g2r_share"].double()
        after = attribution.layer_maps(number, number).maps["g2r_share"].double()
        torch.testing.assert_close(after, before @ patches, rtol=1e-4, atol=1e-8)


def test_half_precision_is_recognised(pack, vision):
    """A Resampler of the real size makes tokens in bfloat16 that differ by 1% of their length."""
    image = tiny_graphs.pixels(1, 1, 224, 224)

    def rounded(graph):
        for patch in patches_in(graph.model):
            given, noise = patch.kwargs[0]["cond"], tiny_graphs.noise(3, 1, 16, 12)
            patch.kwargs[0]["cond"] = given + 0.02 * noise * given.norm() / noise.norm()

    run = Run(pack, vision, image, change=rounded)
    assert run.collect(refer(run.handle, run.adapters[0], image, vision)).references[0].approximate


@pytest.mark.parametrize("wrong", ["image", "adapter"])
def test_another_image_is_refused(pack, vision, wrong):
    image = tiny_graphs.pixels(1, 1, 224, 224)
    run = Run(pack, vision, image)
    adapter, other = run.adapters[0], image
    if wrong == "image":
        other = image.flip(1) ** 3
    else:
        adapter = ip_adapter_standin.weights(plus=True, seed=5)
    with pytest.raises(ValueError, match=r"image 1 of I2AM IPAdapter Reference is not what .* nearest differ by"):
        run.collect(refer(run.handle, adapter, other, vision))


def test_an_image_for_each_picture_is_refused(pack, vision):
    images = tiny_graphs.pixels(1, 2, 224, 224)
    run = Run(pack, vision, images, batch=2, settings={"unfold_batch": True})
    with pytest.raises(ValueError, match=r"there are none to compare.*unfold_batch"):
        run.collect(refer(run.handle, run.adapters[0], images, vision))


def show(attribution, direction="generated to reference", reference=0):
    chosen = ("unified", "share", "auto", "all", "all", "all", 5, reference, 0)
    return I2AMMaps.execute(attribution, direction, *chosen, "inferno", "each map", 0.5).args


def planted(adapter, vision, image, cell):
    """Latents that look for what the features of one patch have more of than all others."""
    features = vision.encode_image(image).penultimate_hidden_states[0].double()
    centred = features - features.mean(0)
    direction = torch.linalg.lstsq(centred, torch.eye(257, dtype=torch.float64)[:, 1 + cell]).solution
    score = centred @ direction
    assert int(score.argmax()) == 1 + cell
    proj = adapter["image_proj"]
    proj["proj_in.weight"][1] = 6 * direction / score.std()
    proj["proj_in.bias"][1] = -6 * features.mean(0) @ direction / score.std()
    for n in range(4):
        to_q, to_kv = (proj[f"layers.{n}.0.{name}.weight"] for name in ("to_q", "to_kv"))
        to_q[:], to_kv[:768] = 0, 0
        proj[f"layers.{n}.0.norm2.weight"][0], proj[f"layers.{n}.0.norm2.bias"][0] = 0, 3
        to_q[::64, 0], to_kv[:768:64, 1] = 20, 1
    return adapter


@pytest.mark.parametrize(("row", "column"), [(2, 13), (9, 0)])
def test_a_planted_patch_has_the_most(pack, vision, row, column):
    image = torch.zeros(1, 224, 224, 3)
    image[:, 14 * row : 14 * row + 14, 14 * column : 14 * column + 14] = 1
    adapter = planted(ip_adapter_standin.weights(plus=True), vision, image, 16 * row + column)
    run = Run(pack, vision, image, adapters=[adapter])
    attribution = run.collect(refer(run.handle, adapter, image, vision))
    overlay, _, mask, labels = show(attribution)
    assert overlay.shape[1:3] == (224, 224)
    brightest = int(mask[0].argmax())
    assert (brightest // 224 // 14, brightest % 224 // 14) == (row, column)
    assert ", approximate" in labels and "approximate" not in show(attribution, "reference to generated")[3]
    masks = torch.ones(1, 16, 16).tril(), image[..., 0]
    report = I2AMIMACS.execute(attribution, "auto", 3.0, 0.4, "all", "all", "all", 0, 0, *masks).args[2]
    assert json.loads(report)["g2r"]["approximate"]


def test_pair_maps(pack, vision):
    image = tiny_graphs.pixels(1, 1, 224, 224)
    run = Run(pack, vision, image, pair_maps="everywhere")
    attribution = run.collect(refer(run.handle, run.adapters[0], image, vision))
    patches = shares_of_patches(pack, vision, run.adapters[0], image)
    pairs, tokens = attribution.layer_maps(0, 0).pairs, run.captured.layer_maps(0, 0).pairs
    expected = tokens["g2r_pairs"].double() @ patches
    expected = expected / expected.sum(-1, keepdim=True)
    torch.testing.assert_close(pairs["g2r_pairs"].double(), expected, rtol=1e-4, atol=1e-8)
    ones = torch.ones_like(pairs["r2g_pairs"][:, 0])
    torch.testing.assert_close(pairs["r2g_pairs"].sum(1), ones, rtol=1e-4, atol=0)
    region = torch.zeros(1, 224, 224)
    region[:, :50, :50] = 1
    result = I2AMSpecificReference.execute(
        attribution, region, "reference to generated", "all", "all", "all", 0, 0, "inferno", 0.5
    )
    assert result.args[2].isfinite().all()


def test_the_unified_loader_gives_both(pack, vision):
    image = tiny_graphs.pixels(1, 1, 224, 224)
    with torch.inference_mode():  # as ComfyUI runs its graphs
        run = Run(pack, vision, image)
        pipeline = {"ipadapter": {"file": "x", "model": run.adapters[0]}, "clipvision": {"file": "y", "model": vision}}
        assert run.collect(refer(run.handle, pipeline, image, None)).references[0].approximate


def test_what_is_no_plus_is_refused(vision):
    image, handle = tiny_graphs.pixels(1, 1, 224, 224), Capture(Settings("auto", "positive", "off", 1))
    plus = ip_adapter_standin.weights(plus=True)
    cases = [
        (ip_adapter_standin.weights(), vision, "'full face' adapter, whose maps lie on 16x16 patches"),
        (ip_adapter_standin.weights(xl=True), vision, "plain adapter"),
        (plus | {"portraitunnorm": True}, vision, "FaceID Portrait"),
        (plus, None, "connect clip_vision"),
        ({"something": 1}, vision, "connect the ipadapter of"),
        (None, vision, "got a NoneType"),
    ]
    for adapter, clip_vision, words in cases:
        with pytest.raises(ValueError, match=words):
            refer(handle, adapter, image, clip_vision)


REAL = [pack for pack in ip_adapter_standin.packs() if isinstance(pack, ip_adapter_standin.Real)]
if REAL:

    def test_the_forward_is_the_packs_own():
        sizes = {"dim": 12, "num_queries": 16, "embedding_dim": 8, "output_dim": 12}
        module = REAL[0].pack.Resampler(depth=4, dim_head=64, heads=12, **sizes)
        state = ip_adapter_standin.weights(plus=True)["image_proj"]
        module.load_state_dict(state)
        features = tiny_graphs.noise(1, 2, 257, 8)
        with torch.no_grad():
            expected = module(features)
        torch.testing.assert_close(resample(state, features).tokens, expected, rtol=1e-4, atol=1e-5)

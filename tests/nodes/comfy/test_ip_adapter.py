"""IP-Adapter: the maps are softmaxes over its own tokens, times what its output is weighted and masked with.

Each test also runs on the real pack where ``IPADAPTER_PLUS_PATH`` names its folder.
"""

from types import FunctionType

import comfy.model_management
import ip_adapter_standin
import pytest
import tiny_graphs
import torch
import torch.nn.functional as F
from ip_adapter_runs import capture, graph_with, measure
from ip_adapter_standin import WEIGHT
from mechanisms import assert_maps_equal

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.comfy.engine import NEGATIVE
from i2am_pack.nodes.comfy.mechanisms.ip_adapter import NO_IMAGE, TEXT, UNOBSERVED
from i2am_pack.nodes.comfy.values import factor


@pytest.fixture(params=ip_adapter_standin.packs(), ids=lambda pack: type(pack).__name__)
def pack(request):
    return request.param


CASES = [
    {"tokens": 16},
    {"tokens": 16, "capture_first": True},
    {"tokens": 4, "cfg": 1.0},
    {"tokens": 16, "batch": 2},
    {"tokens": 16, "lengths": (7, 13)},
    {"tokens": 16, "size": (8, 6), "batch": 2, "images": 3},
    {"tokens": 257},
    {"tokens": 4, "xl": True, "batch": 2},
    {"tokens": 4, "xl": True, "capture_first": True},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_maps_are_the_weights_times_the_gain(pack, case):
    tokens, images, xl = case["tokens"], case.get("images", 1), case.get("xl", False)
    graph, watched, handle = graph_with(pack, **case)
    attribution = capture(graph, watched, handle)
    names = ["output 0.0", "output 0.1", "output 1.0", "output 1.1"] if xl else ["input 1.0", "output 3.0"]
    assert [layer.name for layer in attribution.layers] == names
    steps = measure(pack, graph, tokens)
    gain = torch.tensor(WEIGHT)
    if tokens == 257:
        assert [r.name for r in attribution.references] == ["IP-Adapter", "IP-Adapter, CLS token"]
        assert attribution.references[0].grid == TokenGrid(16, 16)
        assert_maps_equal(attribution, steps, 0, range(1, 257), gain)
        assert_maps_equal(attribution, steps, 1, range(1), gain)
        return
    assert [r.grid for r in attribution.references] == [None] * images
    for image in range(images):
        assert_maps_equal(attribution, steps, image, range(image * tokens, (image + 1) * tokens), gain)
    calls = 2 * len(names)
    assert attribution.captured_calls == attribution.skipped[TEXT] == calls


def test_each_conditioning_in_a_call_of_its_own(pack, monkeypatch):
    graph, watched, handle = graph_with(pack)
    monkeypatch.setattr(type(graph.model.model), "memory_required", lambda *args, **kwargs: float("inf"))
    attribution = capture(graph, watched, handle)
    assert_maps_equal(attribution, measure(pack, graph, 16), 0, range(16), torch.tensor(WEIGHT))


@pytest.mark.parametrize(
    ("kind", "weight"),
    [
        ("ease in", lambda number, block: 0.05 + 0.95 * (1 - number / 16)),
        ("weak input", lambda number, block: 0.2 if block == "input" else 1.0),
        ("style transfer", lambda number, block: 1.0 if number == 0 else 0.0),
    ],
)
def test_weights_that_differ_between_layers(pack, kind, weight):
    graph, watched, handle = graph_with(pack, settings={"weight_type": kind})
    attribution = capture(graph, watched, handle)
    layers = [(0, "input"), (6, "output")]
    expected = [weight(*layer) for layer in layers]
    assert len(attribution.layers) == len(expected)
    for number, factor_ in enumerate(expected):
        share = attribution.layer_maps(0, number).maps["r2g_share"]
        torch.testing.assert_close(share, torch.full_like(share, WEIGHT * factor_), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("scaling", "penalty"), [("K+V", 1.0), ("K+V w/ C penalty", 32 / 1280)])
@pytest.mark.parametrize("unfold", [False, True])
def test_weights_on_keys_and_values(pack, scaling, penalty, unfold):
    settings = {"embeds_scaling": scaling, "unfold_batch": unfold}
    graph, watched, handle = graph_with(pack, batch=2, images=2 if unfold else 1, settings=settings)
    attribution = capture(graph, watched, handle)
    assert not any("changed its values" in note for note in attribution.notes)
    assert_maps_equal(attribution, measure(pack, graph, 16), 0, range(16), torch.tensor(WEIGHT * penalty))


def test_a_weight_on_the_mean_of_the_values_is_noted(pack):
    graph, watched, handle = graph_with(pack, settings={"embeds_scaling": "K+mean(V) w/ C penalty"})
    attribution = capture(graph, watched, handle)
    assert any("changed its values" in note for note in attribution.notes)
    assert_maps_equal(attribution, measure(pack, graph, 16), 0, range(16))


def test_a_mask_is_part_of_the_gain(pack):
    mask = torch.zeros(1, 16, 16)
    mask[:, 4:, 8:] = 1
    graph, watched, handle = graph_with(pack, settings={"attn_mask": mask})
    attribution = capture(graph, watched, handle)
    gain = F.interpolate(mask[:, None], size=(8, 8), mode="bilinear").flatten(1) * WEIGHT
    assert gain.unique().numel() > 1 and (gain == 0).any()
    assert_maps_equal(attribution, measure(pack, graph, 16), 0, range(16), gain)


def test_only_the_steps_in_which_it_acts(pack):
    graph, watched, handle = graph_with(pack, settings={"end_at": 0.5})
    attribution = capture(graph, watched, handle, steps=4)
    assert attribution.steps == 4 and attribution.skipped[TEXT] == 8
    assert 0 < attribution.captured_calls < 8
    entry = attribution.layer_maps(0, 0).maps["r2g_share"]
    assert bool((entry[:, 0] > 0).all()) and not bool((entry[:, -1] > 0).any())


def test_two_adapters_are_two_references(pack):
    graph, watched, handle = graph_with(pack, adapters=2)
    attribution = capture(graph, watched, handle)
    assert [(r.name, r.key) for r in attribution.references] == [("IP-Adapter 1", "0.0"), ("IP-Adapter 2", "1.0")]
    steps = measure(pack, graph, 16)
    for number in range(2):
        mine = [calls[number::2] for calls in steps]
        assert_maps_equal(attribution, mine, number, range(16), torch.tensor(WEIGHT))


def test_a_planted_key_has_the_most(pack):
    """The key of token 38 (CLS is 0), patch 37 of the grid, is made so long that it wins or loses everywhere."""
    graph, watched, handle = graph_with(pack, tokens=257)
    assert brightest(capture(graph, watched, handle)) != {37}
    for patch in patches_in(graph.model).values():
        for name, layer in patch.kwargs[0]["ipadapter"].ip_layers.to_kvs.items():
            if name.endswith("k_ip"):
                layer.register_forward_hook(longer)
    watched, handle = I2AMCapture.execute(graph.model, "IP-Adapter", "positive", "off", 512).args
    assert brightest(capture(graph, watched, handle)) == {37}


def longer(module, inputs, output):
    output = output.clone()
    output[:, 38] *= 100
    return output


def brightest(attribution):
    """The cells that get most, one of each layer."""
    maps = [attribution.layer_maps(0, n).maps["g2r_share"] for n in range(len(attribution.layers))]
    return {int(values.mean((0, 1, 2)).argmax()) for values in maps}


@pytest.mark.parametrize("error", [RuntimeError, comfy.model_management.InterruptProcessingException])
def test_nothing_stays_after_a_failure(pack, error):
    graph, watched, _ = graph_with(pack)
    before = patches_of(watched)
    attention = pack.module.optimized_attention

    def failing(*args):
        raise error()

    watched.set_model_attn2_output_patch(failing)
    with pytest.raises(error):
        graph.sample(watched)
    assert pack.module.optimized_attention is attention
    assert patches_of(watched) == before


def patches_in(model):
    return model.model_options["transformer_options"]["patches_replace"]["attn2"]


def patches_of(model):
    """Each replacement and its callbacks, by identity."""
    blocks = patches_in(model).items()
    return {block: (id(patch), [id(c) for c in patch.callback], list(vars(patch))) for block, patch in blocks}


def test_the_users_objects_stay_as_they_are(pack):
    graph, watched, handle = graph_with(pack)
    before = patches_of(watched)
    capture(graph, watched, handle)
    assert patches_of(watched) == before


def test_inference_mode(pack):
    """As ComfyUI runs its graphs."""
    with torch.inference_mode():
        graph, watched, handle = graph_with(pack)
        attribution = capture(graph, watched, handle)
    share = attribution.layer_maps(0, 0).maps["r2g_share"]
    torch.testing.assert_close(share, torch.full_like(share, WEIGHT), rtol=1e-5, atol=0)


def test_precise_weights_put_the_image_elsewhere(pack):
    graph, watched, handle = graph_with(pack, settings={"weight_type": "composition precise"})
    attribution = capture(graph, watched, handle)
    assert attribution.captured_calls == 0 and attribution.skipped[NO_IMAGE] == 4


def test_the_negative_conditioning_sees_a_negative_image(pack):
    graph, _, _ = graph_with(pack)
    watched, handle = I2AMCapture.execute(graph.model, "auto", "negative", "off", 512).args
    attribution = capture(graph, watched, handle)
    assert attribution.captured_calls == 0 and attribution.skipped[NEGATIVE] == 4


def test_other_packs_of_the_same_contract_are_other_references():
    pack = ip_adapter_standin.StandIn()
    graph, _, _ = graph_with(pack, adapters=2)
    for patch in patches_in(graph.model).values():
        same = patch.callback[1]
        patch.callback[1] = FunctionType(same.__code__, same.__globals__, "instantid_attention")
    watched, handle = I2AMCapture.execute(graph.model, "IP-Adapter", "positive", "off", 512).args
    attribution = capture(graph, watched, handle)
    assert [(r.name, r.key) for r in attribution.references] == [("IP-Adapter", "0.0"), ("InstantID", "1.0")]


def test_a_callback_that_cannot_be_intercepted_is_a_skip():
    pack = ip_adapter_standin.StandIn()
    graph, _, _ = graph_with(pack)
    patch = patches_in(graph.model)["input", 1]
    plain = patch.callback[0]
    patch.callback[0] = lambda *args, **kwargs: plain(*args, **kwargs)
    watched, handle = I2AMCapture.execute(graph.model, "IP-Adapter", "positive", "off", 512).args
    attribution = capture(graph, watched, handle)
    assert attribution.captured_calls == 2 and attribution.skipped[UNOBSERVED] == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_factor_is_measured_or_refused(dtype):
    before = tiny_graphs.noise(1, 2, 5, 64).to(dtype)
    weights = torch.tensor([0.0, 0.3, -1.0, 2.5, 1e-3])
    after = before * weights.to(dtype)[:, None]
    factors, is_multiple = factor(before, after)
    assert is_multiple
    torch.testing.assert_close(factors, weights.expand(2, 5), rtol=1e-2, atol=1e-6)
    after[1, 3, :32] *= 1.5
    assert not factor(before, after)[1]


def test_combined_conditionings_share_the_reference(pack):
    """Two prompts at once: the adapter's image is one reference, and its share that of one."""
    graph, watched, handle = graph_with(pack)
    graph.positive = graph.positive + [[tiny_graphs.noise(9, 1, 7, 12), {}]]
    attribution = capture(graph, watched, handle)
    assert [r.name for r in attribution.references] == ["IP-Adapter"]
    share = attribution.layer_maps(0, 0).maps["r2g_share"]
    torch.testing.assert_close(share, torch.full_like(share, WEIGHT), rtol=1e-5, atol=0)

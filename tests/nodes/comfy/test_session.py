"""Capture around the real samplers: the picture stays, nothing stays patched, the maps are the model's own."""

import copy
import types

import comfy.model_management
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import pytest
import torch
import workflow
from selected import maps

from i2am_pack.i2am_core.attention import shortcut
from i2am_pack.nodes.comfy import captured
from i2am_pack.nodes.comfy.attention_call import Arguments
from i2am_pack.nodes.comfy.attention_route import AttentionRoute
from i2am_pack.nodes.comfy.consumers import record
from i2am_pack.nodes.comfy.steered_kernel import kernel_of
from i2am_pack.nodes.comfy.steps import step_of

LAYERS = ["input 1.0", "input 3.0", "output 0.0", "output 1.0", "output 2.0", "output 3.0"]


@pytest.fixture(scope="module")
def single():
    return workflow.make()


@pytest.mark.parametrize("sampler", comfy.samplers.KSampler.SAMPLERS)
def test_the_picture_does_not_change(single, sampler):
    plain = single.sample(sampler=sampler)["samples"]
    model, handle = single.capture()
    watched = single.sample(model, sampler)["samples"]
    assert torch.equal(plain, watched)
    attribution = handle.find(watched)
    assert [layer.name for layer in attribution.layers] == LAYERS
    assert attribution.captured_calls > 0
    assert set(attribution.skipped) == {"self-attention: it holds no reference tokens"}


@pytest.mark.parametrize(("cfg", "batch"), [(1.0, 2), (3.0, 1), (3.0, 2)])
def test_the_picture_does_not_change_with_guidance_and_batches(cfg, batch):
    graph = workflow.make(batch)
    for branch in ("positive", "negative"):
        model, _ = graph.capture(branch=branch)
        assert torch.equal(graph.sample(cfg=cfg)["samples"], graph.sample(model, cfg=cfg)["samples"])


class Oracle:
    """Stores q and k of every cross-attention call, by an override of its own, in the order of the calls."""

    def __init__(self):
        self.calls = []
        self.options = {
            "optimized_attention_override": self.attend,
            "patches": {"attn2_patch": [self.before_cross_attention]},
        }
        self.next_is_cross = False

    def before_cross_attention(self, n, context, value, options):
        self.next_is_cross = True
        return n, context, value

    def attend(self, attention, q, k, v, heads, *args, **kwargs):
        if self.next_is_cross:
            self.next_is_cross = False
            options = kwargs["transformer_options"]
            self.calls.append((options["block"], float(options["sigmas"][0]), options["cond_or_uncond"], q, k, heads))
        return attention(q, k, v, heads, *args, **kwargs)

    def watch(self, model):
        model = model.clone()
        model.model_options["transformer_options"] = self.options
        return model


@pytest.mark.parametrize(
    ("cfg", "text", "negative", "branch"),
    [
        (1.0, 0, None, "positive"),
        (3.0, 0, None, "positive"),
        (1.0, 77, None, "positive"),  # joint: text competes
        (3.0, 256, 256, "positive"),  # the negative is repeated in the batch
        (3.0, 0, 512, "positive"),  # the positive is repeated in the batch
        (3.0, 77, 50, "positive"),  # two calls
    ],
)
def test_maps_equal_an_independent_oracle(cfg, text, negative, branch):
    batch, steps, head, item = 2, 3, 1, 1
    graph = workflow.make(batch, text_tokens=text, negative_tokens=negative)
    oracle = Oracle()
    graph.sample(oracle.watch(graph.model), steps=steps, cfg=cfg)
    attribution = graph.attribution(steps, cfg, branch=branch)
    tokens = graph.positive[0][0].shape[1]
    columns = slice(text, text + 256)
    checked = 0
    for number, layer in enumerate(attribution.layers):
        kind, place = layer.name.split()
        block = (kind, int(place.split(".")[0]))
        for step in range(steps):
            sigma = attribution.sigmas[step]
            candidates = [c for c in oracle.calls if abs(c[1] - sigma) < 1e-4 * sigma and c[0] == block and 0 in c[2]]
            assert len(candidates) == 1
            kinds, q, k, heads = candidates[0][2:]
            row = kinds.index(0) * batch + item
            q64, k64 = (x[row].double().unflatten(-1, (heads, -1))[:, head] for x in (q, k[:, :tokens]))
            logits = q64 @ k64.T * q64.shape[-1] ** -0.5
            share = logits.softmax(1)[:, columns]
            paper = logits[:, columns].softmax(1)
            inside = graph_region(graph, layer.grid, item)
            expected = {
                "r2g_share": share.sum(1),
                "g2r_share": share.mean(0),
                "g2r_paper": paper.mean(0),
                "r2g_paper": logits[:, columns].softmax(0).mean(1),
                "g2r_paper_scope": paper[inside].mean(0),
                "g2r_share_scope": share[inside].mean(0),
            }
            entry = attribution.layer_maps(0, number)
            for name, values in expected.items():
                torch.testing.assert_close(entry.maps[name][item, step, head].double(), values, atol=1e-5, rtol=1e-4)
                checked += 1
    assert checked == len(LAYERS) * steps * 6


def graph_region(graph, grid, item):
    mask = graph.scene["mask"][item]
    cells = torch.nn.functional.avg_pool2d(mask[None, None], 64 // grid.width).flatten()
    return cells > 0.5


def test_an_item_of_a_batch_has_the_maps_of_that_item_alone():
    graph = workflow.make(batch=3)
    noise = torch.randn(graph.latent["samples"].shape, generator=torch.Generator().manual_seed(0))

    def run(items):
        model, handle = graph.capture()
        rows = slice(items, items + 1) if isinstance(items, int) else items
        conditionings = [
            [[t[rows] if t.shape[0] == 3 else t, {k: cut(k, v, rows) for k, v in about.items()}]]
            for ((t, about),) in (graph.positive, graph.negative)
        ]
        out = comfy.sample.sample(
            model,
            noise[rows],
            3,
            1.0,
            "euler",
            "normal",
            *conditionings,
            graph.latent["samples"][rows],
            noise_mask=graph.latent["noise_mask"][rows],
            seed=0,
        )
        return handle.find(out)

    def cut(key, value, rows):
        return value[rows] if key in ("concat_latent_image", "concat_mask") and value.shape[0] == 3 else value

    together, alone = run(slice(None)), run(1)
    for direction in ("r2g", "g2r"):
        for level in ("unified", "time", "head", "layer"):
            torch.testing.assert_close(
                maps(together, direction, level, item=1).values,
                maps(alone, direction, level).values,
                atol=1e-6,
                rtol=1e-3,
            )


def options_of(model):
    return copy.copy(model.model_options), model.model_options["transformer_options"].copy(), dict(model.wrappers)


class StopError(Exception):
    pass


@pytest.mark.parametrize("ending", ["success", "exception", "interrupt"])
def test_nothing_stays_patched(single, ending):
    original = options_of(single.model)
    backend = comfy.ldm.modules.attention.optimized_attention
    around = []  # the run's own options, before and after our wrapper

    def outermost(executor, *args, **kwargs):
        around.append(executor.class_obj.model_options["transformer_options"])
        try:
            return executor(*args, **kwargs)
        finally:
            around.append(executor.class_obj.model_options["transformer_options"])

    outer = single.model.clone()
    outer.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, "test", outermost)
    model, handle = workflow.I2AMCapture.execute(outer, "auto", "positive", "off", 512).args
    before = copy.deepcopy(options_of(model)[1])
    seen = []

    def callback(step, x0, x, total):
        seen.append(model.model.current_patcher)
        if ending == "exception":
            raise StopError
        if ending == "interrupt":
            raise comfy.model_management.InterruptProcessingException

    noise = torch.zeros_like(single.latent["samples"])
    arguments = dict(latent_image=single.latent["samples"], noise_mask=single.latent["noise_mask"], seed=0)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(single.positive, single.negative)
    sampler, sigmas = comfy.samplers.sampler_object("euler"), torch.tensor([5.0, 2.0, 0.0])

    def run():
        guider.sample(noise, single.latent["samples"], sampler, sigmas, arguments["noise_mask"], callback, True, 0)

    if ending == "success":
        run()
    else:
        with pytest.raises((StopError, comfy.model_management.InterruptProcessingException)):
            run()
    assert seen
    assert around[0] is around[1] and "optimized_attention_override" not in around[1]
    assert options_of(single.model) == original
    assert model.model_options["transformer_options"] == before
    assert guider.model_options["transformer_options"] == before
    assert comfy.ldm.modules.attention.optimized_attention is backend
    assert len(handle._runs) == (1 if ending == "success" else 0)
    assert torch.equal(single.sample()["samples"], single.sample(model)["samples"])


def test_a_broken_capture_is_a_skip_and_not_a_broken_picture(single, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(record, "attribute", fail)
    model, handle = single.capture()
    out = single.sample(model)
    assert torch.equal(out["samples"], single.sample()["samples"])
    attribution = handle.find(out["samples"])
    assert not attribution.entries
    assert attribution.skipped["I2AM could not read this call (RuntimeError: out of luck)"] == 18


def test_the_override_of_another_pack_stays(single):
    calls = []

    def theirs(attention, *args, **kwargs):
        calls.append(1)
        return attention(*args, **kwargs)

    for order in ("before", "after"):
        calls.clear()
        model = single.model.clone()
        if order == "before":
            model.model_options["transformer_options"]["optimized_attention_override"] = theirs
        model, handle = workflow.I2AMCapture.execute(model, "auto", "positive", "off", 512).args
        if order == "after":
            model = model.clone()
            model.model_options["transformer_options"]["optimized_attention_override"] = theirs
        out = single.sample(model)
        assert len(calls) == 36 and handle.find(out["samples"]).captured_calls == 18


def test_a_clone_after_capture_still_writes_to_the_same_handle(single):
    model, handle = single.capture()
    out = single.sample(model.clone().clone())
    assert handle.find(out["samples"]).entries


def test_two_captures_in_a_row_watch_both_branches():
    graph = workflow.make()
    graph.negative[0][1]["i2am_references"] = graph.positive[0][1]["i2am_references"]
    model, positive = graph.capture()
    model, negative = workflow.I2AMCapture.execute(model, "auto", "negative", "off", 512).args
    out = graph.sample(model, cfg=3.0)["samples"]
    first, second = maps(positive.find(out), "g2r").values, maps(negative.find(out), "g2r").values
    assert not torch.allclose(first, second)
    torch.testing.assert_close(second, torch.full_like(second, 1 / 256), atol=1e-6, rtol=1e-3)  # all keys are equal


def test_a_replaced_cross_attention_is_not_taken_for_another(single):
    """Another pack's attn2 replacement hides its calls; the self-attention after it must not be mistaken."""
    import comfy.ldm.modules.attention as attention

    model = single.model.clone()
    model.set_model_attn2_replace(
        lambda q, k, v, options: attention.optimized_attention(q, k, v, options["n_heads"]), "output", 2
    )
    model, handle = workflow.I2AMCapture.execute(model, "auto", "positive", "off", 512).args
    out = single.sample(model)
    attribution = handle.find(out["samples"])
    assert [layer.name for layer in attribution.layers] == [name for name in LAYERS if name != "output 2.0"]
    assert attribution.captured_calls == 15


def test_a_second_order_sampler_is_filed_by_sigma(single):
    attribution = single.attribution(4, sampler="heun")
    assert attribution.steps == 4
    assert attribution.captured_calls == 7 * len(LAYERS)  # two calls a step but one in the last
    assert attribution.layer_maps(0, 0).seen.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("sigma", "expected"),
    [(10.0, 0), (12.0, 0), (9.0, 0), (5.0, 1), (4.99, 1), (5.0000001, 1), (1.0, 2), (0.5, 2), (0.0, 2)],
)
def test_step_of_a_falling_schedule(sigma, expected):
    assert step_of(sigma, torch.tensor([10.0, 5.0, 1.0, 0.0])) == expected


@pytest.mark.parametrize(("sigma", "expected"), [(0.0, 0), (0.5, 0), (1.0, 1), (4.0, 1), (5.0, 2), (12.0, 2)])
def test_step_of_a_rising_schedule(sigma, expected):
    assert step_of(sigma, torch.tensor([0.0, 1.0, 5.0, 10.0])) == expected


def test_a_range_of_steps_keeps_its_own_sigmas(single):
    model, handle = single.capture()
    first = single.sample(model, steps=6, start_step=0, last_step=2, force_full_denoise=False)
    second = single.sample(model, steps=6, start_step=2, last_step=6, disable_noise=True, force_full_denoise=True)
    assert handle.find(first["samples"]).steps == 2
    assert handle.find(second["samples"]).steps == 4


def test_pair_maps_are_those_of_the_mask(single):
    attribution = single.attribution()
    entry = attribution.layer_maps(0, 5)
    inside = graph_region(single, attribution.layers[5].grid, 0)
    assert entry.pair_rows.tolist() == inside.nonzero().flatten().tolist()
    torch.testing.assert_close(
        entry.pairs["g2r_pairs"][0].mean(0),
        maps(attribution, "g2r", scope="inpainting mask", layers="5").values[0].flatten(),
    )
    assert single.attribution(pair_maps="off").layer_maps(0, 5).pairs == {}
    assert single.attribution(pair_maps="everywhere").layer_maps(0, 5).pairs["g2r_pairs"].shape == (1, 256, 256)


def test_the_budget_is_not_exceeded(single):
    attribution = single.attribution(10, budget_mb=1)
    assert attribution.nbytes <= 2**20
    assert attribution.heads != "in each step"
    assert "mean of heads" in attribution.summary()


def test_a_mask_that_the_host_has_prepared_already_is_the_same():
    """Newer ComfyUI cores hand the sampler ``[items, channels, h, w]``: items must not be taken for channels."""
    noise = torch.zeros(2, 4, 6, 8)
    mask = torch.zeros(2, 1, 6, 8)
    mask[0, :, :3], mask[1, :, :, 5:] = 1, 1
    guider = types.SimpleNamespace(conds={})
    plain = captured.mask_of(guider, "positive", mask, noise)
    prepared = captured.mask_of(guider, "positive", mask.repeat(1, 4, 1, 1), noise)
    assert torch.equal(plain, mask[:, 0]) and torch.equal(prepared, plain)


def test_the_row_sums_are_intercepted_where_the_host_runs_plain_attention(single):
    def plain_attention(attention, *args, **kwargs):
        return comfy.ldm.modules.attention.attention_pytorch(*args, **kwargs)

    graph = workflow.make(batch=2, text_tokens=9)
    graph.model = graph.model.clone()
    graph.model.model_options["transformer_options"]["optimized_attention_override"] = plain_attention
    model, handle = graph.capture()
    latent = graph.sample(model, cfg=3.0)["samples"]
    assert torch.equal(latent, graph.sample(cfg=3.0)["samples"])
    attribution = handle.find(latent)
    assert attribution.row_sums == {"intercepted from the attention kernel that computed the call": 18}
    assert "row sums of 18 calls: intercepted" in attribution.summary()

    class Deaf(record.Interceptor):
        def total(self, *call):
            return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "Interceptor", Deaf)
        deaf = graph.attribution(cfg=3.0)
    assert deaf.row_sums == {"scaled_dot_product_flash_attention_for_cpu": 18}
    for number in range(len(LAYERS)):
        for name, values in deaf.layer_maps(0, number).maps.items():
            torch.testing.assert_close(attribution.layer_maps(0, number).maps[name], values, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("of_pack", [False, True])
def test_only_attention_of_comfyui_is_called_at_once(of_pack, monkeypatch):
    """Not what another pack calls: it may be code that goes another way under a mode, as MultiheadAttention does."""
    taken_apart = []

    class Counted(record.Interceptor):
        def __enter__(self):
            taken_apart.append(1)
            return super().__enter__()

    def override(function, *args, **kwargs):
        return function(*args, **kwargs)

    monkeypatch.setattr(record, "Interceptor", Counted)
    monkeypatch.setattr(shortcut, "_known", shortcut.Remembered())
    attention = comfy.ldm.modules.attention.attention_pytorch
    q, k, v = torch.randn(3, 2, 9, 32).unbind()
    plain = attention(q, k, v, 4)
    route = AttentionRoute.of(getattr(attention, "__wrapped__", attention), (q, k, v, 4), override if of_pack else None)
    arguments = Arguments(kernel_of(route), (q, k, v, 4), {}, route.kernel, route.override)
    for _ in range(3):
        kernel = record.InterceptedKernel(arguments.kernel)
        assert torch.equal(kernel(arguments), plain) and kernel.interceptor.intercepted
    assert len(taken_apart) == (3 if of_pack else 1)


def test_an_override_that_was_there_lends_ours_nothing(single):
    """Newer ComfyUI cores call its ``container_function`` instead, if it has one: that one is ours, which observes."""
    seen = []

    def plain_attention(attention, *args, **kwargs):
        return attention(*args, **kwargs)

    def look(executor, *args, **kwargs):
        seen.append(args[-1]["optimized_attention_override"])
        return executor(*args, **kwargs)

    plain_attention.container_function = None
    plain_attention.of_their_own = True
    model = single.model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = plain_attention
    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "look", look)
    model, handle = workflow.I2AMCapture.execute(model, "auto", "positive", "off", 512).args
    assert handle.find(single.sample(model)["samples"]).captured_calls == 18
    assert seen and all(override.container_function.__self__ is override for override in seen)
    assert not any(hasattr(override, "of_their_own") for override in seen)


def test_a_compiled_model_is_captured_and_the_summary_says_what_that_means(single):
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model = single.model.clone()
    set_torch_compile_wrapper(model, backend="eager")  # traces as every backend does, and leaves the arithmetic alone
    compiled = single.sample(model, steps=1)["samples"]
    model, handle = workflow.I2AMCapture.execute(model, "auto", "positive", "off", 512).args
    watched = single.sample(model, steps=1)["samples"]
    assert torch.equal(watched, compiled)
    attribution = handle.find(watched)
    assert attribution.captured_calls == 6
    assert "the model is compiled" in attribution.summary()
    plain = single.attribution(steps=1, pair_maps="off")
    torch.testing.assert_close(maps(attribution, "g2r").values, maps(plain, "g2r").values, atol=1e-6, rtol=1e-4)

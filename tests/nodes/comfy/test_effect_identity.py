"""The picture, the random numbers and the maps of attention are bit by bit what they are without I2AM Effect."""

from itertools import cycle

import comfy.samplers
import comfy.supported_models
import pytest
import tiny_graphs
import torch
import workflow
from comfy_extras.nodes_custom_sampler import Guider_DualCFG
from comfy_extras.nodes_perpneg import Guider_PerpNeg
from effect_runs import captured, check, measured, owners_and_reasons, same_maps, strongest
from mechanisms import steered
from steered_graphs import ip_adapter, kontext, tagged

SAMPLERS = comfy.samplers.KSampler.SAMPLERS
SIGMAS = torch.tensor([1.0, 0.7, 0.3, 0.0])

ONE = ((4, 8),)  # height and width of one reference, in cells
GRAPHS = {
    "kontext": lambda: tiny_graphs.flux_kontext(sizes=ONE),
    "kontext, guidance": lambda: kontext(sizes=ONE),
    "kontext, two calls": lambda: kontext(sizes=ONE, lengths=(7, 12)),
    "kontext, batch": lambda: kontext(sizes=ONE, batch=2),
    "qwen": lambda: tiny_graphs.qwen_edit(sizes=ONE, cfg=3.0),
    "ip-adapter": lambda: ip_adapter(cfg=3.0),
    "redux, a bias": lambda: tagged(tiny_graphs.flux_redux_bias()),
}
FURTHER = ("dpm_fast", "dpm_adaptive")  # have a schedule of their own


@pytest.mark.parametrize(("sampler", "name"), list(zip(SAMPLERS, cycle(GRAPHS), strict=False)))
def test_every_sampler(sampler, name):
    """Pairs of sampler and graph, so that neither is always with the same other. Regions are measured below."""
    graph = GRAPHS["kontext" if sampler == "dpm_adaptive" else name]()  # which takes many steps
    settings = {"maps": False, "through": "directly", "regions": 0}
    attribution = check(lambda model: graph.sample(model, steps=3, sampler_name=sampler), graph.model, **settings)
    owners, reasons = owners_and_reasons(attribution)
    assert owners == [0, "text"], reasons
    assert strongest(attribution) > 0
    if sampler not in FURTHER:
        steps = attribution.effects.steps(0, "directly")
        assert steps[0] == 0 and len(steps) == 2


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph(name):
    graph = GRAPHS[name]()
    attribution = check(lambda model: graph.sample(model), graph.model)
    assert strongest(attribution) > 0
    assert attribution.effects.regions or name == "ip-adapter"


def test_the_demo_with_all_that_can_be_measured():
    graph = workflow.make(batch=2, text_tokens=9)
    bare = [
        [tokens[:, :9], {k: x for k, x in about.items() if k != "i2am_references"}] for tokens, about in graph.positive
    ]
    attribution = check(
        lambda model: graph.sample(model, steps=4, cfg=3.0, sampler="dpmpp_2m_sde"), graph.model, without=bare
    )
    owners, reasons = owners_and_reasons(attribution)
    assert owners == [0, "text", "conditioning"] and not reasons
    assert set(attribution.effects.regions) == {(0, "taken away"), (0, "only this left")}


def computed_in(graph, dtype):
    """The same model, computed in another precision."""
    config = comfy.supported_models.Flux(dict(graph.model.model.model_config.unet_config))
    config.set_inference_dtype(dtype, dtype)
    model = config.get_model({}, device=torch.device("cpu")).eval()
    model.diffusion_model.load_state_dict(
        {name: x.to(dtype) for name, x in graph.model.model.diffusion_model.state_dict().items()}
    )
    graph.model = type(graph.model)(model, torch.device("cpu"), torch.device("cpu"))
    return graph


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_precisions(dtype, cfg):
    graph = computed_in(kontext(batch=2), dtype)
    attribution = check(lambda model: graph.sample(model, cfg=cfg, sampler_name="euler_ancestral"), graph.model)
    assert strongest(attribution) > 0
    assert all(values.dtype == torch.float32 for values in attribution.effects.maps.values())


VIDEOS = {
    "wan_i2v": 1,
    "wan_phantom": 2,
    "wan_vace": 1,
    "hunyuan_video_custom": 1,
}


@pytest.mark.parametrize("name", VIDEOS)
def test_videos(name):
    graph = tiny_graphs.GRAPHS[name]()
    attribution = check(lambda model: graph.sample(model, sampler_name="uni_pc", steps=3), graph.model)
    assert set(range(VIDEOS[name])) <= set(attribution.effects.owners), attribution.effects.unmeasured


# Parts of runs


def test_a_run_that_begins_late_and_ends_early():
    graph = kontext()
    attribution = check(
        lambda model: graph.sample(model, steps=8, start_step=3, last_step=6, force_full_denoise=False), graph.model
    )
    assert attribution.steps == 3 and attribution.effects.steps(0)[0] == 0


def test_a_lower_denoise():
    graph = kontext()
    graph.latent = {"samples": tiny_graphs.noise(3, *graph.latent["samples"].shape)}
    assert check(lambda model: graph.sample(model, steps=3, denoise=0.5), graph.model).effects.owners


def test_inpainting_keeps_what_is_outside_the_mask_in_all_predictions():
    graph = kontext()
    shape = graph.latent["samples"].shape
    mask = torch.zeros(1, *shape[-2:])
    mask[:, :4] = 1
    graph.latent = {"samples": tiny_graphs.noise(3, *shape), "noise_mask": mask}
    attribution = check(lambda model: graph.sample(model, steps=3), graph.model)
    for latent in attribution.effects.predictions.values():
        torch.testing.assert_close(latent[:, :, 4:].float(), graph.latent["samples"][:, :, 4:], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("sampler", ["heun", "euler_ancestral"])
def test_a_schedule_that_jumps_back_up_and_one_step(sampler):
    graph = kontext()
    for sigmas, steps in (([1.0, 0.6, 0.2, 0.8, 0.4, 0.2, 0.0], 6), ([1.0, 0.5, 0.5, 0.0], 3), ([1.0, 0.0], 1)):
        attribution = check(
            lambda model, sigmas=sigmas: sample(model, graph, comfy.samplers.CFGGuider, sampler, torch.tensor(sigmas)),
            graph.model,
            maps=False,
            probe_steps=100,
            regions=0,
        )
        effects = attribution.effects
        assert effects.steps(0) == sorted(set(effects.steps(0))) and len(effects.steps(0)) <= steps
        assert effects.steps(0)[0] == 0


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_never_more_steps_are_measured_than_there_are(count):
    graph = tiny_graphs.flux_kontext()
    model, handle = captured(graph.model)
    latent = graph.sample(measured(model, probe_steps=count, regions=0), steps=3)
    effects = handle.find(latent["samples"]).effects
    assert effects.steps(0) == list(range(3))[: min(3, count)] or len(effects.steps(0)) == min(3, count)
    assert effects.steps(0)[0] == 0


def test_two_passes_with_one_capture():
    graph = kontext()

    def sample(model):
        first = graph.sample(model, sampler_name="euler_ancestral")
        second = tiny_graphs.Graph(model, graph.positive, graph.negative, {"samples": first["samples"]}, graph.cfg)
        return second.sample(steps=3, denoise=0.6, sampler_name="dpmpp_2s_ancestral")

    assert strongest(check(sample, graph.model)) > 0


# Guiders


def sample(model, graph, guider, sampler="euler", sigmas=SIGMAS, callback=None):
    latent = graph.latent["samples"]
    guider = guider(model)
    if isinstance(guider, Guider_DualCFG):
        guider.set_conds(graph.positive, graph.negative, graph.negative)
        guider.set_cfg(3.0, 1.5)
    elif isinstance(guider, Guider_PerpNeg):
        guider.set_conds(graph.positive, graph.negative, graph.negative)
        guider.set_cfg(3.0, 1.0)
    else:
        guider.set_conds(graph.positive, graph.negative)
        guider.set_cfg(3.0)
    sampler = comfy.samplers.sampler_object(sampler)
    return guider.sample(tiny_graphs.noise(7, *latent.shape), latent, sampler, sigmas, None, callback, True, 0)


@pytest.mark.parametrize("guider", [Guider_DualCFG, Guider_PerpNeg], ids=lambda x: x.__name__)
def test_guiders_with_further_conditionings(guider):
    graph = kontext()
    attribution = check(lambda model: sample(model, graph, guider), graph.model)
    assert strongest(attribution) > 0


def test_the_negative_branch_has_effects_of_its_own():
    graph = kontext()
    model, positive = captured(graph.model)
    model, negative = captured(model, "negative")
    latent = graph.sample(measured(model, regions=1, through="everything"))["samples"]
    assert torch.equal(latent, graph.sample()["samples"])
    alone = check(lambda model: graph.sample(model), graph.model, through="everything")
    alone_negative = check(lambda model: graph.sample(model), graph.model, branch="negative", through="everything")
    for handle, expected in ((positive, alone), (negative, alone_negative)):
        effects = handle.find(latent).effects
        assert effects.maps.keys() == expected.effects.maps.keys()
        for removal, values in expected.effects.maps.items():
            assert torch.equal(effects.maps[removal], values)
    assert not torch.equal(
        positive.find(latent).effects.maps[0, 0, "everything"], alone_negative.effects.maps[0, 0, "everything"]
    )


def test_a_branch_that_is_never_evaluated_is_said():
    graph = kontext()
    attribution = check(lambda model: graph.sample(model, cfg=1.0), graph.model, branch="negative")
    owners, reasons = owners_and_reasons(attribution)
    assert not owners
    assert reasons == {"references": "the model was not evaluated with the negative conditioning in these steps"}


# The order of nodes


ORDERS = [
    ("capture", "effect", "steer"),
    ("capture", "steer", "effect"),
    ("effect", "capture", "steer"),
    ("effect", "steer", "capture"),
    ("steer", "capture", "effect"),
    ("steer", "effect", "capture"),
]


def in_order(graph, order, strength):
    model, handle = graph.model, None
    for node in order:
        if node == "capture":
            model, handle = captured(model)
        else:
            model = measured(model, regions=0) if node == "effect" else steered(model, strength, reference=0)
    latent = graph.sample(model)["samples"]
    return latent, handle.find(latent)


def test_any_order_on_the_model_line_is_the_same():
    graph = kontext()
    expected_latent = graph.sample(steered(graph.model, 0.5, reference=0))["samples"]
    _, expected = in_order(graph, ORDERS[0], 0.5)
    for order in ORDERS:
        latent, attribution = in_order(graph, order, 0.5)
        assert torch.equal(latent, expected_latent)
        same_maps(attribution, expected)
        assert attribution.effects.maps.keys() == expected.effects.maps.keys()
        for removal, values in expected.effects.maps.items():
            assert torch.equal(attribution.effects.maps[removal], values)


def test_beside_steer_the_steered_reference_is_measured():
    graph = kontext()
    muted, half, plain = (
        in_order(graph, ORDERS[0], strength)[1].effects.maps[0, 0, "everything"] for strength in (0.0, 0.5, 1.0)
    )
    floor = 1e-5 * float(plain.max())
    assert float(muted.max()) <= floor
    assert float(plain.max()) > float(half.max()) > 100 * floor

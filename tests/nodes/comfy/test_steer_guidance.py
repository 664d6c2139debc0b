"""Steering by guidance: with one step of euler, the latent is the model's answer D, which is mixed by hand here."""

import comfy.model_management
import comfy.samplers
import comfy_extras.nodes_pag as nodes_pag
import pytest
import tiny_graphs
import torch
from by_hand import ByHand
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_custom_sampler import Guider_DualCFG
from mechanisms import steered
from steered_graphs import captured, close, differ, in_windows, ip_adapter, kontext, region, skip_layers, tagged
from steered_oracle import Run

from i2am_pack.i2am_core.effect import Removal
from i2am_pack.nodes.comfy.consumers.without import Without
from i2am_pack.nodes.comfy.measured import effect_with
from i2am_pack.nodes.comfy.removals import Settings as EffectSettings

KONTEXT = [ByHand(0.0, range(19, 33))]  # both references


def without(model, steers=KONTEXT, keys=33):
    """The model whose references are left out by hand, in 64 bits."""
    return Run(lambda queries, own: steers if own == keys else ()).on(model)


def mixed(with_it, without_it, strength, mask=1.0):
    steered = without_it.double() + strength * (with_it.double() - without_it.double())
    return (with_it.double() + mask * (steered - with_it.double())).float()


def once(graph, model=None, **sampling):
    return graph.sample(model, steps=1, **sampling)["samples"]


class Answers:
    """What ``calc_cond_batch`` returns to those outside all of ours, and how often the denoiser is called for it."""

    def __init__(self, model):
        self.model, self.of_lists = model.clone(), []
        self.count = torch.zeros((), dtype=torch.long)  # a number would be put back after a further evaluation
        self.model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "answers", self._answers())
        self.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "forwards", self._forwards())

    def _answers(self):
        def answers(executor, *args, **kwargs):
            output = executor(*args, **kwargs)
            self.of_lists.append([x.clone() for x in output])
            return output

        return answers

    def _forwards(self):
        def forwards(executor, *args, **kwargs):
            self.count += 1
            return executor(*args, **kwargs)

        return forwards

    @property
    def forwards(self):
        return int(self.count)


# What it is


GRAPHS = {
    "kontext": (lambda: kontext(cfg=1.0), {}, lambda model: without(model)),
    "a batch": (lambda: kontext(cfg=1.0, batch=2), {}, lambda model: without(model)),
    "one of two": (
        lambda: kontext(cfg=1.0),
        {"reference": 1},
        lambda model: without(model, [ByHand(0.0, range(27, 33))]),
    ),
    "a part of one": (
        lambda: kontext(cfg=1.0),
        {"reference": 0, "reference_region": region(2, 4, (0, 1), (1, 3))},
        lambda model: without(model, [ByHand(0.0, [20, 26])]),
    ),
    "directly": (
        lambda: kontext(cfg=1.0),
        {"through": "directly"},
        lambda model: without(model, [ByHand(0.0, range(19, 33), rows=range(7, 19))]),
    ),
    "flux2": (
        lambda: tiny_graphs.flux2_edit(cfg=1.0),
        {},
        lambda model: without(model, [ByHand(0.0, range(524, 538))], 538),
    ),
    "redux": (
        lambda: tagged(tiny_graphs.flux_redux()),
        {},
        lambda model: without(model, [ByHand(0.0, range(7, 736))], 748),
    ),
    "video": (
        lambda: tiny_graphs.wan_phantom(cfg=1.0),
        {},
        lambda model: without(model, [ByHand(0.0, range(12, 24))], 24),
    ),
    "video, a softmax of its own": (
        lambda: tiny_graphs.wan_i2v(cfg=1.0),
        {},
        lambda model: without(model, [ByHand(0.0, range(257))], 257),
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_answer_is_mixed(name):
    make, settings, left_out = GRAPHS[name]
    graph = make()
    plain, bare = once(graph), once(graph, left_out(graph.model))
    differ(plain, bare)
    for strength in (-2.0, 1.5):
        latent = once(graph, steered(graph.model, strength, "guidance", **settings))
        close(latent, mixed(plain, bare, strength))


def test_an_ip_adapter():
    graph, bare = ip_adapter(), ip_adapter(False)
    plain, bare = once(graph), once(bare)
    differ(plain, bare)
    for strength in (0.0, 3.0):
        close(once(graph, steered(graph.model, strength, "guidance")), mixed(plain, bare, strength))


def test_muted_it_is_the_run_that_is_muted_by_attention():
    graph = kontext()
    by_guidance, by_attention = (
        graph.sample(steered(graph.model, 0.0, by))["samples"] for by in ("guidance", "attention")
    )
    close(by_guidance, by_attention)


def test_at_strength_1_nothing_is_evaluated():
    graph = kontext()
    plain = Answers(graph.model)
    steered_once = Answers(steered(graph.model, 1.0, "guidance", reference=7))
    assert torch.equal(graph.sample(plain.model)["samples"], graph.sample(steered_once.model)["samples"])
    assert plain.forwards == steered_once.forwards == 2


def test_it_is_mixed_before_any_function_of_guidance():
    """Of each branch: what is outside gets D of the positive, and D of the negative, as they are mixed by hand."""
    graph = kontext()
    plain, bare, of_steered = (
        Answers(model) for model in (graph.model, without(graph.model), steered(graph.model, 2.0, "guidance"))
    )
    for answers in (plain, bare, of_steered):
        once(graph, answers.model)
    for branch in range(2):
        expected = mixed(plain.of_lists[0][branch], bare.of_lists[0][branch], 2.0)
        close(of_steered.of_lists[0][branch], expected)
    assert plain.forwards == 1 and of_steered.forwards == 2


@pytest.mark.parametrize("branch", ["positive", "negative"])
def test_the_other_branch_keeps_every_bit(branch):
    graph = kontext()
    plain, bare, of_steered = (
        Answers(x) for x in (graph.model, without(graph.model), steered(graph.model, 2.0, "guidance", branch=branch))
    )
    for answers in (plain, bare, of_steered):
        once(graph, answers.model)
    own, other = (0, 1) if branch == "positive" else (1, 0)
    assert torch.equal(of_steered.of_lists[0][other], plain.of_lists[0][other])
    close(of_steered.of_lists[0][own], mixed(plain.of_lists[0][own], bare.of_lists[0][own], 2.0))


def test_a_branch_without_a_reference_keeps_every_bit():
    graph = kontext(negative=False)
    plain, of_steered = Answers(graph.model), Answers(steered(graph.model, 2.0, "guidance"))
    for answers in (plain, of_steered):
        once(graph, answers.model)
    assert torch.equal(of_steered.of_lists[0][1], plain.of_lists[0][1])
    differ(of_steered.of_lists[0][0], plain.of_lists[0][0])


class ByHandInEachStep:
    """The model whose answers are mixed by hand, in every evaluation or in some: it evaluates two models of its own."""

    def __init__(self, model, left_out, strength, when=lambda sigma: True):
        self.model, self._own = model.clone(), False
        self.made = 0

        def by_hand(executor, *args, **kwargs):
            if self._own or not when(float(args[3].max())):
                return executor(*args, **kwargs)
            self.made += 1
            with_it = executor(*args, **kwargs)
            options = args[4] | {"transformer_options": dict(args[4]["transformer_options"])}
            of_run = left_out(self.model).model_options["transformer_options"]
            options["transformer_options"]["optimized_attention_override"] = of_run["optimized_attention_override"]
            bare = executor(*args[:4], options, *args[5:], **kwargs)
            return [mixed(a, b, strength) for a, b in zip(with_it, bare, strict=True)]

        self.model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "mixed by hand", by_hand)


@pytest.mark.parametrize("sampler", ["euler_cfg_pp", "euler", "heun", "dpmpp_2m_cfg_pp", "res_multistep_cfg_pp"])
def test_samplers(sampler):
    """Also those that take the negative's answer apart (CFG++), and that evaluate twice in a step."""
    graph = kontext()
    by_hand = ByHandInEachStep(graph.model, without, 1.7)
    sampling = {"steps": 3, "sampler_name": sampler}
    expected = graph.sample(by_hand.model, **sampling)["samples"]
    assert by_hand.made >= 3
    latent = graph.sample(steered(graph.model, 1.7, "guidance"), **sampling)["samples"]
    differ(latent, graph.sample(**sampling)["samples"])
    close(latent, expected, rtol=1e-3)


def test_steps():
    graph = kontext()
    sigmas = []

    def when(sigma):
        sigmas.append(sigma)
        return sigma == sigmas[0]

    by_hand = ByHandInEachStep(graph.model, without, 2.0, when)
    expected = graph.sample(by_hand.model, steps=3)["samples"]
    assert by_hand.made == 1
    counted = Answers(steered(graph.model, 2.0, "guidance", steps="0"))
    close(graph.sample(counted.model, steps=3)["samples"], expected)
    assert counted.forwards == 4


# Where


def test_outside_the_region_every_bit_stays():
    graph = kontext(cfg=1.0)
    mask = region(8, 6, (0, 0), (3, 4), (7, 5))
    plain, bare = once(graph), once(graph, without(graph.model))
    latent = once(graph, steered(graph.model, 2.0, "guidance", generated_region=mask))
    outside = (mask == 0)[:, None].expand_as(plain)
    assert torch.equal(latent[outside], plain[outside])
    close(latent, mixed(plain, bare, 2.0, mask[:, None]))
    differ(latent, plain)


def test_a_soft_region_mixes_by_its_value():
    graph = kontext(cfg=1.0)
    mask = torch.linspace(0, 1, 48).view(1, 8, 6)
    plain, bare = once(graph), once(graph, without(graph.model))
    painted = mask.repeat_interleave(8, 1).repeat_interleave(8, 2)
    for region_of_any_size in (mask, painted):
        latent = once(graph, steered(graph.model, -1.0, "guidance", generated_region=region_of_any_size))
        close(latent, mixed(plain, bare, -1.0, mask[:, None]))


def test_a_region_for_each_picture_of_a_batch():
    graph = kontext(batch=2, cfg=1.0)
    masks = torch.cat([region(8, 6, (0, 0), (1, 1)), region(8, 6, (6, 2))])
    plain, bare = once(graph), once(graph, without(graph.model))
    latent = once(graph, steered(graph.model, 2.0, "guidance", generated_region=masks))
    close(latent, mixed(plain, bare, 2.0, masks[:, None]))


def test_a_region_of_a_video_is_the_same_in_all_frames():
    graph = tiny_graphs.wan_phantom(cfg=1.0)
    mask = region(4, 6, (0, 1), (3, 2))
    plain, bare = once(graph), once(graph, without(graph.model, [ByHand(0.0, range(12, 24))], 24))
    latent = once(graph, steered(graph.model, 2.0, "guidance", generated_region=mask))
    outside = (mask == 0)[:, None, None].expand_as(plain)
    assert torch.equal(latent[outside], plain[outside])
    close(latent, mixed(plain, bare, 2.0, mask[:, None, None]))


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_context_windows(cfg):
    graph = in_windows(tiny_graphs.wan_phantom(cfg=cfg))
    mask = region(4, 6, (0, 1), (1, 1), (2, 4))

    def by_hand(queries, keys):
        return [ByHand(0.0, range(keys - 12, keys))] if keys in (30, 36) else ()

    plain, bare = once(graph), once(graph, Run(by_hand).on(graph.model))
    latent = once(graph, steered(graph.model, 2.0, "guidance", generated_region=mask))
    differ(latent, plain)
    close(latent, mixed(plain, bare, 2.0, mask[:, None, None]))


def test_an_area_is_steered_where_it_counts():
    graph = kontext(cfg=1.0)
    graph.positive[0][1]["area"] = (4, 6, 4, 0)
    plain, bare = once(graph), once(graph, without(graph.model, [ByHand(0.0, range(13, 27))], 27))
    differ(plain, bare)
    close(once(graph, steered(graph.model, 2.0, "guidance")), mixed(plain, bare, 2.0))


@pytest.mark.parametrize("through", ["everything", "directly"])
def test_a_canvas(through):
    graph = tiny_graphs.flux_fill_canvas(size=(8, 8))
    left, right = (torch.zeros(1, 8, 8) for _ in range(2))
    left[:, :, :4], right[:, :, 4:] = 1, 1
    cells = [7 + 4 * y + x for y in range(4) for x in range(4)]
    columns = [cell for n, cell in enumerate(cells) if n % 4 < 2]
    rows = [cell for n, cell in enumerate(cells) if n % 4 >= 2]
    hand = ByHand(0.0, columns, rows=None if through == "everything" else rows)
    settings = {"mechanism": "canvas regions", "through": through, "reference_region": left}
    plain, bare = Answers(graph.model), Answers(without(graph.model, [hand], 23))
    for mask in (None, right):
        own = settings if mask is None else settings | {"generated_region": mask}
        of_steered = Answers(steered(graph.model, 2.0, "guidance", **own))
        for answers in (plain, bare, of_steered):
            answers.of_lists.clear()
            once(graph, answers.model)
        expected = mixed(plain.of_lists[0][0], bare.of_lists[0][0], 2.0, 1 if mask is None else mask[:, None])
        close(of_steered.of_lists[0][0], expected)


# Beside others


def test_two_of_the_same_reference_multiply():
    graph = kontext()
    both = steered(steered(graph.model, 0.5, "guidance"), 3.0, "guidance")
    close(graph.sample(both)["samples"], graph.sample(steered(graph.model, 1.5, "guidance"))["samples"])


def test_two_of_two_references_are_mixed_one_in_the_other():
    graph = kontext(cfg=1.0)
    first, second = ByHand(0.0, range(19, 27)), ByHand(0.0, range(27, 33))
    plain, no_first, no_second, bare = (
        once(graph, without(graph.model, steers)) for steers in ([], [first], [second], [first, second])
    )
    both = steered(steered(graph.model, 2.0, "guidance", reference=0), -1.0, "guidance", reference=1)
    expected = mixed(mixed(plain, no_second, -1.0), mixed(no_first, bare, -1.0), 2.0)
    close(once(graph, both), expected)


@pytest.mark.parametrize("guidance_first", [False, True])
def test_those_that_steer_attention_act_in_both_evaluations(guidance_first):
    graph = kontext(cfg=1.0)
    weighed, left_out = ByHand(0.3, range(19, 27)), ByHand(0.0, range(27, 33))
    expected = mixed(
        once(graph, without(graph.model, [weighed])), once(graph, without(graph.model, [weighed, left_out])), 2.0
    )
    steers = [{"strength": 0.3, "reference": 0}, {"strength": 2.0, "by": "guidance", "reference": 1}]
    model = graph.model
    for settings in reversed(steers) if guidance_first else steers:
        model = steered(model, **settings)
    close(once(graph, model), expected)


@pytest.mark.parametrize("by", ["attention", "guidance"])
def test_one_that_steers_the_negative_alone_waits_for_it(by):
    """Its own evaluations are not counted for another: that would say that the negative never comes."""
    graph = kontext()
    model = steered(steered(graph.model, 2.0, "guidance", branch="positive"), 0.5, by, branch="negative")
    one_by_one = Answers(model)
    one_by_one.model.set_model_sampler_calc_cond_batch_function(
        lambda args: [
            comfy.samplers.calc_cond_batch(
                args["model"], [c], args["input"], args["sigma"],
                args["model_options"] | {"sampler_calc_cond_batch_function": None},
            )[0]
            for c in args["conds"]
        ]
    )  # fmt: skip
    together = graph.sample(model)["samples"]
    close(graph.sample(one_by_one.model)["samples"], together)


@pytest.mark.parametrize("capture_first", [False, True])
def test_capture_beside_it_records_the_runs_own_evaluation(capture_first):
    graph = kontext()
    alone = once(graph, steered(graph.model, 2.0, "guidance"))
    plain_model, plain_handle = captured(graph.model)
    plain = plain_handle.find(once(graph, plain_model))
    if capture_first:
        model, handle = captured(graph.model)
        model = steered(model, 2.0, "guidance")
    else:
        model, handle = captured(steered(graph.model, 2.0, "guidance"))
    assert torch.equal(once(graph, model), alone)
    attribution = handle.find(alone)
    assert attribution.captured_calls == plain.captured_calls == 4
    assert attribution.skipped == plain.skipped
    for key, entry in plain.entries.items():
        for kind, values in entry.maps.items():
            assert torch.equal(attribution.entries[key].maps[kind], values)
    (note,) = set(attribution.notes) - set(plain.notes)
    assert note.startswith("steered by I2AM Steer: strength 2 on all references, by guidance, through everything")


@pytest.mark.parametrize("steer_first", [False, True])
def test_effect_beside_it_measures_the_steered_reference(steer_first):
    """D changes by ``strength`` times as much, where all that it mixes is taken away."""
    graph = kontext()

    def effect(model, is_steered=False):
        model = steered(model, 2.5, "guidance") if is_steered and steer_first else model
        model, handle = captured(model)
        model = effect_with(model, EffectSettings(probe_steps=1))
        model = steered(model, 2.5, "guidance") if is_steered and not steer_first else model
        return handle.find(once(graph, model)).effects.maps[Removal(0, "all references")]

    close(effect(graph.model, is_steered=True), 2.5 * effect(graph.model))


def test_every_conditioning_of_a_guider_is_steered():
    graph = kontext()
    latent = graph.latent["samples"]
    noise = tiny_graphs.noise(7, *latent.shape)

    def sample(model):
        guider = Guider_DualCFG(model)
        guider.set_conds(graph.positive, graph.negative, graph.negative)
        guider.set_cfg(3.0, 1.5)
        sampler = comfy.samplers.sampler_object("euler")
        return guider.sample(noise, latent, sampler, torch.tensor([1.0, 0.0]), None, None, True, 0)

    run = Run(lambda queries, keys: [ByHand(0.0, range(19, 33), branches=(0, 1, 2))] if keys == 33 else ())
    plain, bare = sample(graph.model), sample(run.on(graph.model))
    close(sample(steered(graph.model, 2.0, "guidance")), mixed(plain, bare, 2.0))  # guidance is linear in its answers


def on_a_canvas(queries, keys):
    side = {64: 8, 16: 4}.get(keys) if queries == keys else None
    cells = [y * side + x for y in range(side) for x in range(side // 2)] if side else []
    return [ByHand(0.0, cells)] if cells else ()


FURTHER = {
    "PAG of a U-Net": (
        tiny_graphs.sd15_canvas,
        lambda model: tiny_graphs.run(nodes_pag.PerturbedAttentionGuidance, model, 3.0)[0],
        on_a_canvas,
        {"mechanism": "canvas regions", "reference_region": region(2, 2, (0, 0), (1, 0))},
    ),
    "skipped layers": (
        kontext,
        skip_layers,
        lambda queries, keys: [ByHand(0.0, range(19, 33))] if keys == 33 else (),
        {},
    ),
}


@pytest.mark.parametrize("name", FURTHER)
def test_further_evaluations_for_guidance_are_mixed_too(name):
    """So that the term of guidance is the mixture of its own terms with and without the reference."""
    make, guided, by_hand, settings = FURTHER[name]
    graph = make()
    of_steered = Answers(steered(guided(graph.model), 2.0, "guidance", **settings))
    plain, bare = Answers(guided(graph.model)), Answers(Run(by_hand).on(guided(graph.model)))
    for answers in (plain, bare, of_steered):
        once(graph, answers.model)
    assert len(plain.of_lists) == len(of_steered.of_lists) > 1
    for own, with_it, without_it in zip(of_steered.of_lists, plain.of_lists, bare.of_lists, strict=True):
        for n, answer in enumerate(own):
            close(answer, mixed(with_it[n], without_it[n], 2.0))


# What stops a run


@pytest.mark.parametrize("chosen", [{"layers": "0"}, {"heads": "1"}])
def test_layers_and_heads(chosen):
    with pytest.raises(ValueError, match="which has no layers and heads: leave layers and heads on 'all'"):
        steered(kontext().model, 2.0, "guidance", **chosen)


def test_what_does_not_exist_is_said_before_the_first_chosen_step():
    graph = kontext()
    model = Answers(steered(graph.model, 2.0, "guidance", reference=5, steps="2"))
    with pytest.raises(ValueError, match="reference 5 does not exist: I2AM Steer found 0 "):
        graph.sample(model.model, steps=3)
    assert model.forwards == 1


@pytest.mark.parametrize("error", ["OOM_EXCEPTION", "InterruptProcessingException"])
def test_errors_of_the_further_evaluation_are_comfyuis(monkeypatch, error):
    """And nothing of ours is left behind."""
    graph = kontext()
    plain, kind = graph.sample()["samples"], getattr(comfy.model_management, error)

    def fails(*args):
        raise kind("of the further evaluation")

    with monkeypatch.context() as patched:
        patched.setattr(Without, "before", fails)
        with pytest.raises(kind):
            graph.sample(steered(graph.model, 2.0, "guidance"))
    denoiser = graph.model.model.diffusion_model
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in denoiser.modules())
    assert torch.equal(graph.sample()["samples"], plain)

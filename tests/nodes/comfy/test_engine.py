"""Locate, then act: what consumers are notified of, and what becomes of one that acts, or fails."""

import pytest
import tiny_graphs
import torch
from attention_packs import transformers
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_hypertile import HyperTile
from ip_adapter_standin import SETTINGS, StandIn, weights
from mechanisms import sampled, with_strength_of
from selected import maps

from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.comfy import block_hooks, consumer_watch, forward_pass
from i2am_pack.nodes.comfy.consumers import Consumer
from i2am_pack.nodes.comfy.engine import OTHER_ROWS, Engine
from i2am_pack.nodes.comfy.located import Skip
from i2am_pack.nodes.comfy.mechanisms import MECHANISMS, Mechanism

SHARE = "share"


class Mute(Consumer):
    """Leaves the references' columns out, for all rows of the branch."""

    acts = True

    def before(self, call, located):
        return with_strength_of(call, located, 0.0)


class Notified(Consumer):
    def __init__(self):
        self.references, self.layers, self.outputs, self.skips = [], [], [], []

    def given(self, references, branch):
        self.references = references

    def after(self, call, located, output):
        self.layers += [match.layer.name for one in located for match in one.by_mechanism.values()]
        self.outputs.append(output.clone())

    def skip(self, skip, calls=1):
        self.skips.append(skip.reason)


def test_one_that_looks_is_notified_of_every_call_and_changes_nothing():
    notified, graph = Notified(), tiny_graphs.flux_kontext()
    latent, attribution = sampled(graph, notified)
    assert torch.equal(latent, graph.sample()["samples"])
    assert notified.layers == ["double 0", "double 1", "single 0", "single 1"] * 2
    assert [r.name for r in notified.references] == ["reference latent 1", "reference latent 2"]
    assert len(notified.outputs) + len(notified.skips) == attribution.captured_calls + sum(attribution.skipped.values())


@pytest.mark.parametrize("last", [False, True])
def test_one_that_acts_comes_first_and_those_that_look_see_what_it_made(last):
    graph, notified = tiny_graphs.flux_kontext(), Notified()
    plain, before = sampled(graph)
    latent, attribution = sampled(graph, *((notified, Mute()) if last else (Mute(), notified)))
    assert not torch.equal(latent, plain)
    for reference in range(2):
        assert maps(before, "r2g", "unified", SHARE, reference=reference).values.min() > 0
        assert not maps(attribution, "r2g", "unified", SHARE, reference=reference).values.any()
    afterwards, _ = sampled(graph)
    assert torch.equal(afterwards, plain)


def test_a_muted_reference_might_as_well_be_another():
    """What acts is exact: with its columns left out for all rows, no value of a reference reaches the picture."""
    one, other = tiny_graphs.flux_kontext(reference=2), tiny_graphs.flux_kontext(reference=9)
    muted = [sampled(graph, Mute(), steps=1)[0] for graph in (one, other)]
    assert not torch.equal(sampled(one, steps=1)[0], sampled(other, steps=1)[0])
    torch.testing.assert_close(*muted, rtol=1e-5, atol=1e-5)


class Refuses(Consumer):
    acts = True
    patient = False  # with attention in which no reference is known to be

    def skip(self, skip, calls=1):
        if calls and not (self.patient and skip.absent):
            raise ValueError(f"this reference cannot be changed: {skip.reason}")


def test_one_that_acts_raises_where_it_cannot():
    graph = tiny_graphs.omnigen2_edit()  # whose refiners are skipped
    plain = graph.sample()["samples"]
    with pytest.raises(ValueError, match="this reference cannot be changed: a refiner"):
        sampled(graph, Refuses())
    denoiser = graph.model.model.diffusion_model
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in denoiser.modules())
    assert torch.equal(graph.sample()["samples"], plain)


class Patient(Refuses):
    patient = True


@pytest.mark.parametrize("name", ["omnigen2_edit", "wan_i2v", "hunyuan_video_15"])
def test_one_that_acts_knows_that_no_reference_was_there(name):
    graph = tiny_graphs.GRAPHS[name]()
    latent, attribution = sampled(graph, Patient())
    assert attribution.skipped and torch.equal(latent, graph.sample()["samples"])


ENDED = ["forward_ended", "evaluation_ended"]


class Breaks(Notified):
    def __init__(self, acts, method):
        super().__init__()
        self.acts = acts
        setattr(self, method, self._fail)

    def _fail(self, *args):
        raise RuntimeError("out of luck")


@pytest.mark.parametrize("method", ["given", "before", "after", "skip", "note", *ENDED])
def test_one_that_looks_and_fails_costs_itself_only(method):
    graph, broken = tiny_graphs.omnigen2_edit(), Breaks(False, method)
    graph.positive = [*graph.positive, *graph.positive]  # combined, which is noted
    plain, attribution = sampled(graph)
    latent, beside = sampled(graph, broken)
    assert torch.equal(latent, plain) and attribution.notes and attribution.skipped
    assert beside.captured_calls == attribution.captured_calls and beside.skipped == attribution.skipped
    assert beside.notes == attribution.notes
    assert method != "after" or any("out of luck" in reason for reason in broken.skips)


@pytest.mark.parametrize("method", ["given", "before", "after", "skip", *ENDED])
def test_one_that_acts_and_fails_is_not_passed_over(method):
    with pytest.raises(RuntimeError) as raised:
        sampled(tiny_graphs.omnigen2_edit(), Breaks(True, method))
    assert str(raised.value) == "out of luck"


def test_one_that_acts_is_notified_at_once_of_a_block_that_is_not_observed():
    graph = tiny_graphs.flux_kontext()
    graph.model = transformers.replaces_blocks(graph.model, [("double_block", 1)])
    with pytest.raises(
        ValueError, match="this reference cannot be changed: attention that was not observed: it ran in "
    ):
        sampled(graph, Refuses())


def test_one_that_acts_is_not_left_out_of_a_run_that_cannot_be_watched(monkeypatch):
    def fail(*args):
        raise RuntimeError("no memory")

    monkeypatch.setattr(consumer_watch, "ModelCalls", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        sampled(tiny_graphs.flux_kontext(), Refuses())


def test_a_mechanism_locates_before_the_kernel_runs(monkeypatch):
    order = []

    class First(Mechanism):
        name = "first"
        priority = 1000

        def locate(self, site, chunk, call):
            order.append("locate")
            return Skip("first of all")

    def override(attention, *args, **kwargs):
        order.append("kernel")
        return attention(*args, **kwargs)

    monkeypatch.setitem(MECHANISMS, "first", First())
    graph = tiny_graphs.flux_text()
    graph.model = graph.model.clone()
    graph.model.model_options["transformer_options"]["optimized_attention_override"] = override
    _, attribution = sampled(graph, steps=1)
    assert order == ["locate", "kernel"] * 4
    assert attribution.skipped == {"first of all": 4}, "the reason of the highest priority"


def test_priority_orders_mechanisms_however_they_are_listed():
    listed = list(MECHANISMS.values())
    assert Engine(listed[::-1], []).mechanisms == Engine(listed, []).mechanisms


# References are numbered by what was given


def adapters(*windows):
    graph = tiny_graphs.sd15_text()
    for seed, (start, end) in enumerate(windows):
        seen = [tiny_graphs.noise(base + seed, 1, 16, 8) for base in (40, 60)]
        settings = SETTINGS | {"start_at": start, "end_at": end}
        graph.model = StandIn.apply(graph.model, weights(False, seed), *seen, False, **settings)
    return graph


def test_an_adapter_that_starts_late_keeps_its_number():
    notified = Notified()
    _, attribution = sampled(adapters((0.6, 1.0), (0.0, 1.0)), notified, steps=4)
    names = [reference.name for reference in attribution.references]
    assert names == [reference.name for reference in notified.references] == ["IP-Adapter 1", "IP-Adapter 2"]
    late, early = (attribution.layer_maps(number, 0) for number in range(2))
    assert early.maps["r2g_share"][:, 0].min() > 0
    assert late.seen[0] == 1 and not late.maps["r2g_share"][:, 0].any() and late.maps["r2g_share"][:, -1].min() > 0


def test_an_adapter_that_never_starts_keeps_its_number_too():
    _, attribution = sampled(adapters((0.999, 1.0), (0.0, 1.0)), steps=2)
    assert [reference.name for reference in attribution.references] == ["IP-Adapter 1", "IP-Adapter 2"]
    assert not attribution.layer_maps(0, 0).maps["r2g_share"].any()
    assert "'IP-Adapter 1' is off in all steps, where its maps are 0" in attribution.summary()


def test_references_of_a_conditioning_that_starts_late_come_in_the_order_of_the_conditionings():
    graph = tiny_graphs.flux_kontext(sizes=((4, 8),))
    ((tokens, about),) = graph.positive
    late = about | {"reference_latents": [tiny_graphs.noise(77, 1, 16, 5, 4)], "start_percent": 0.6}
    graph.positive = [[tokens, late], [tokens, about | {"end_percent": 0.6}]]
    _, attribution = sampled(graph, steps=4, scheduler="normal")
    assert [str(reference.grid) for reference in attribution.references] == ["2x3", "4x2"]
    read = [attribution.layer_maps(number, 0).maps["r2g_share"].amax((0, 2, 3)) > 0 for number in range(2)]
    assert [x[0].item() for x in read] == [False, True] and [x[-1].item() for x in read] == [True, False]


@pytest.mark.parametrize("name", ["flux_kontext", "flux_uso", "wan_i2v", "wan_vace", "omnigen2_edit", "flux2_edit"])
def test_what_was_given_is_what_is_read(name):
    notified = Notified()
    _, attribution = sampled(tiny_graphs.GRAPHS[name](), notified)
    read = [(r.name, r.key, r.tokens, r.grid) for r in attribution.references]
    given = [(r.name, r.key, r.tokens, r.grid) for r in notified.references]
    assert read[: len(given)] == given
    assert {reference for reference, _ in attribution.entries} == set(range(len(read)))


@pytest.mark.parametrize("method", ["enter", "leave", "announce", "begin_replacement", "end_replacement", "_end"])
@pytest.mark.parametrize("name", ["flux_kontext", "sd15_text"])
def test_an_error_while_blocks_run_costs_maps_only(name, method, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("out of luck")

    graph = getattr(tiny_graphs, name)()
    if name == "flux_kontext":
        graph.model = transformers.wraps_blocks(graph.model, [("double_block", 1)])
    plain = graph.sample(steps=1)["samples"]
    monkeypatch.setattr(forward_pass.ForwardPass, method, fail)
    latent, attribution = sampled(graph, steps=1)
    assert torch.equal(latent, plain)
    happens = method not in ("announce" if name == "flux_kontext" else "begin_replacement", "end_replacement")
    said = any("out of luck" in note for note in attribution.notes)
    assert said or not happens or (name == "flux_kontext" and method == "announce")


def test_reference_only_comes_before_an_adapter_as_ever():
    graph = tiny_graphs.sd15_reference_only()
    seen = [tiny_graphs.noise(base, 1, 16, 8) for base in (40, 60)]
    graph.model = StandIn.apply(graph.model, weights(False, 0), *seen, False, **SETTINGS)
    _, attribution = sampled(graph)
    assert [reference.name for reference in attribution.references] == ["reference", "IP-Adapter"]


def test_consumers_of_two_captures_do_not_meet():
    graph = tiny_graphs.flux_kontext()
    plain = graph.sample()["samples"]
    first, one = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    both, other = I2AMCapture.execute(first, "style tokens", "positive", "off", 512).args
    latent = graph.sample(both)["samples"]
    assert torch.equal(latent, plain)
    assert one.find(latent).captured_calls == 8 and other.find(latent).captured_calls == 0


@pytest.mark.parametrize(
    "name", ["flux_kontext", "qwen_edit", "sd15_canvas", "z_image_canvas", "wan_phantom", "wan_vace"]
)
def test_without_hooks_a_layer_has_its_own_name_or_none(monkeypatch, name):
    """As in a graph that was compiled without them. Newer cores name blocks of Wan, VACE and Lumina "double 0", too."""
    graph = getattr(tiny_graphs, name)()
    canvas = torch.zeros(2, 1, 64, 64)
    canvas[0, ..., :32], canvas[1, ..., 32:] = 1, 1

    def watched():
        masks = canvas if name.endswith("canvas") else (None, None)
        model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512, *masks).args
        latent = graph.sample(model)["samples"]
        return latent, handle.find(latent)

    plain, attribution = watched()
    monkeypatch.setattr(block_hooks.BlockHooks, "put_on", lambda self, blocks: None)
    latent, unhooked = watched()
    assert torch.equal(latent, plain)
    calls = attribution.captured_calls + sum(attribution.skipped.values())
    assert unhooked.captured_calls + sum(unhooked.skipped.values()) == calls
    known = [layer.name for layer in attribution.layers]
    assert known and {layer.name for layer in unhooked.layers} <= set(known)
    for number, layer in enumerate(unhooked.layers):
        expected = attribution.layer_maps(0, known.index(layer.name)).maps
        for kind, values in unhooked.layer_maps(0, number).maps.items():
            torch.testing.assert_close(values, expected[kind])


def test_a_developer_sees_which_calls_were_skipped(caplog):
    """As docs/adding.md says: ComfyUI shows it with --verbose DEBUG."""
    caplog.set_level("DEBUG", logger="i2am_pack.nodes.comfy.engine")
    _, attribution = sampled(tiny_graphs.sd15_canvas(), mechanism="IP-Adapter")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == sum(attribution.skipped.values()) > 0
    assert all(line.startswith("skipped in step ") and "queries" in line for line in lines)
    assert {line.rpartition(" keys: ")[2] for line in lines} == set(attribution.skipped)


def test_attention_in_tiles_is_skipped_for_its_rows():
    """HyperTile cuts the positions of self-attention into tiles, which are rows of the batch of their own."""
    graph = tiny_graphs.sd15_canvas(batch=4)
    graph.model = HyperTile.execute(graph.model, 32, 1, 0, False)[0]
    _, attribution = sampled(graph)
    (reason,) = (reason for reason in attribution.skipped if "rows" in reason)
    assert "hypertile_in of comfy_extras.nodes_hypertile changed: it has " in reason
    assert not any("could not read" in reason for reason in attribution.skipped)


def test_a_model_that_a_pack_runs_row_by_row_is_skipped_for_its_rows():
    graph = tiny_graphs.sd15_text(batch=2, cfg=1.0)

    def row_by_row(executor, x, timesteps, context, *args, **kwargs):
        rows = zip(x.split(1), timesteps.split(1), context.split(1), strict=True)
        return torch.cat([executor(*row, *args, **kwargs) for row in rows])

    graph.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", row_by_row)
    _, attribution = sampled(graph)
    assert set(attribution.skipped) == {OTHER_ROWS}

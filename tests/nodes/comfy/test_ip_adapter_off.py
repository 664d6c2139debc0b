"""An IP-Adapter that was observed to be off counts as 0: in steps that are not its own, of weight 0, in some layers.

Each test also runs on the real pack where ``IPADAPTER_PLUS_PATH`` names its folder.
"""

import dataclasses

import ip_adapter_standin
import pytest
import torch
from ip_adapter_runs import capture, graph_with, measure
from ip_adapter_standin import WEIGHT

from i2am_pack.i2am_core import MapKind, Selection, load, maps, save
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.comfy.mechanisms.ip_adapter import LEFT_OUT, NOT_APPLIED, WEIGHT_IS_ZERO

STEPS = 4
SHARE, PAPER = MapKind("r2g", "share"), MapKind("r2g", "paper")


@pytest.fixture(params=ip_adapter_standin.packs(), ids=lambda pack: type(pack).__name__)
def pack(request):
    return request.param


def run(pack, steps=STEPS, **about):
    graph, watched, handle = graph_with(pack, **about)
    attribution = capture(graph, watched, handle, steps=steps)
    return graph, attribution


def unified(attribution, kind=SHARE, **selected):
    return maps(attribution, kind, "unified", Selection(**selected)).values


def steps_on(attribution, reference=0):
    """The steps in which the reference gets anything."""
    share = attribution.layer_maps(reference, 0).maps["r2g_share"][0]
    return [step for step in range(attribution.steps) if bool(share[step].any())]


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.5), (0.5, 1.0), (0.25, 0.75)])
@pytest.mark.parametrize("about", [{}, {"cfg": 1.0}, {"batch": 2, "tokens": 257}, {"capture_first": True}], ids=str)
def test_the_share_is_of_all_steps(pack, start, end, about):
    settings = {"start_at": start, "end_at": end}
    graph, attribution = run(pack, settings=settings, **about)
    made = measure(pack, graph, about.get("tokens", 16), steps=STEPS)
    on = [step for step, calls in enumerate(made) if calls]
    assert 0 < len(on) < STEPS and steps_on(attribution) == on
    expected = torch.stack([calls[0].weights.sum(-1) for calls in made if calls]).sum(0) * WEIGHT / STEPS
    references = range(len(attribution.references))
    share = sum(attribution.layer_maps(r, 0).maps["r2g_share"].mean(1) for r in references)
    torch.testing.assert_close(share.double(), expected, atol=1e-6, rtol=1e-5)
    assert attribution.layer_maps(0, 0).seen.tolist() == [1] * STEPS
    assert attribution.captured_calls == 2 * len(on)


def test_half_of_the_steps_is_half_of_the_share(pack):
    _, always = run(pack)
    _, attribution = run(pack, settings={"end_at": 0.5})
    on = len(steps_on(attribution))
    torch.testing.assert_close(unified(always), torch.full_like(unified(always), WEIGHT))
    torch.testing.assert_close(unified(attribution), torch.full_like(unified(always), WEIGHT * on / STEPS))
    of_steps = unified(attribution, PAPER, steps=f"0-{on - 1}")
    torch.testing.assert_close(unified(attribution, PAPER), of_steps * on / STEPS)  # smaller, of the same form


def test_it_is_said(pack, tmp_path):
    _, attribution = run(pack, settings={"end_at": 0.5})
    off = [step for step in range(STEPS) if step not in steps_on(attribution)]
    (note,) = [note for note in attribution.notes if "off" in note]
    steps = f"steps {off[0]}-{off[-1]}" if len(off) > 1 else f"step {off[0]}"
    assert note == f"'IP-Adapter' is off in {steps} of {STEPS}, where its maps are 0: {NOT_APPLIED}"
    assert note in attribution.summary()
    labels = maps(attribution, SHARE, "time", time_groups=0).labels
    assert [label.endswith(" (off)") for label in labels] == [step in off for step in range(STEPS)]
    save(attribution, tmp_path / "a.i2am.safetensors")
    assert maps(load(tmp_path / "a.i2am.safetensors"), SHARE, "time", time_groups=0).labels == labels


def test_one_that_is_never_on(pack):
    graph, watched, handle = graph_with(pack, settings={"start_at": 0.9, "end_at": 0.1})
    latent = graph.sample(watched, steps=STEPS)
    attribution, _, summary = I2AMCollect.execute(handle, latent).args
    assert not unified(attribution).any() and len(attribution.layers) == 2
    assert f"'IP-Adapter' is off in all steps, where its maps are 0: {NOT_APPLIED}" in summary


@pytest.mark.parametrize("kind", ["linear", "style transfer"])
def test_one_of_weight_0(pack, kind):
    graph, watched, handle = graph_with(pack, settings={"weight": 0.0, "weight_type": kind})
    latent = graph.sample(watched, steps=STEPS)
    attribution, _, summary = I2AMCollect.execute(handle, latent).args
    assert [r.name for r in attribution.references] == ["IP-Adapter"]
    assert attribution.mechanism == "IP-Adapter" and attribution.captured_calls == 0
    assert not unified(attribution).any() and not unified(attribution, PAPER).any()
    assert WEIGHT_IS_ZERO in next(note for note in attribution.notes if "off in all steps" in note)
    assert "read by no call" not in summary


def test_each_adapter_has_its_own_steps(pack):
    _, attribution = run(pack, settings=[{"end_at": 0.5}, {"start_at": 0.5}, {"weight": 0.0}])
    first, second = steps_on(attribution, 0), steps_on(attribution, 1)
    assert first and second and first[-1] < STEPS - 1 and second[0] > 0 and not steps_on(attribution, 2)
    shares = [float(unified(attribution, reference=n).mean()) for n in range(3)]
    assert shares == pytest.approx([WEIGHT * len(steps) / STEPS for steps in (first, second, ())], rel=1e-5)
    reasons = {note.split("'")[1]: note.partition(": ")[2] for note in attribution.notes if " off " in note}
    assert reasons == {f"IP-Adapter {n}": why for n, why in ((1, NOT_APPLIED), (2, NOT_APPLIED), (3, WEIGHT_IS_ZERO))}


def test_layers_that_a_weight_type_leaves_out(pack):
    _, attribution = run(pack, settings={"weight_type": "style transfer"})
    on = [n for n in range(len(attribution.layers)) if bool(attribution.layer_maps(0, n).maps["r2g_share"].any())]
    assert len(attribution.layers) == 2 and len(on) == 1
    torch.testing.assert_close(unified(attribution).mean(), torch.tensor(WEIGHT / 2))
    name = attribution.layers[1 - on[0]].name
    assert f"'IP-Adapter' is off in {name}, where its maps are 0: {LEFT_OUT}" in attribution.notes


def test_pair_maps_and_the_mask(pack):
    """All kinds of maps count the steps in which it is off."""
    mask = torch.zeros(1, 16, 16)
    mask[:, 4:, 8:] = 1
    about = {"tokens": 257, "mask": mask, "pair_maps": "everywhere"}
    _, attribution = run(pack, settings={"end_at": 0.5}, **about)
    on, entry = steps_on(attribution), attribution.layer_maps(0, 0)
    assert {"g2r_paper_scope", "g2r_share_scope"} <= entry.maps.keys()
    for values in entry.maps.values():
        assert [bool(values[:, step].any()) for step in range(STEPS)] == [step in on for step in range(STEPS)]
    _, always = run(pack, **about)
    sums, expected = (x.layer_maps(0, 0).pairs["g2r_pairs"].sum(-1).mean() for x in (attribution, always))
    torch.testing.assert_close(sums, expected * len(on) / STEPS, rtol=1e-2, atol=0)


def test_nothing_else_changes():
    """What is always on says nothing of being off."""
    _, attribution = run(ip_adapter_standin.StandIn())
    assert not any("off" in note for note in attribution.notes)
    assert dataclasses.replace(attribution).not_evaluated == ()

"""What was observed to be off counts as 0, in every detail; steps that were not evaluated do not count."""

import dataclasses
import json

import pytest
import torch
from recorded import BIG_BUDGET, COARSE, FINE, REFERENCE
from safetensors import safe_open
from safetensors.torch import save_file

from i2am_core import (
    Layer,
    MapKind,
    Place,
    Recorder,
    Selection,
    attribute,
    concentration,
    load,
    maps,
    of_items,
    save,
    span,
)
from i2am_core.errors import BadFile
from i2am_core.files import checksum, header
from i2am_core.kinds import UNSCOPED
from i2am_core.recording.off import zero_maps
from i2am_core.recording.steps import FROM_MEMORY, NO_EVALUATION, NOT_ACTIVE, OTHER_BRANCH, PART, StepAccount
from i2am_core.showing.view import view

STEPS, ON = 6, (0, 1)
LAYERS = [Layer("a", FINE, 3), Layer("b", COARSE, 4)]
SHARE = MapKind("r2g", "share")


def run(budget=BIG_BUDGET, on=ON, off=tuple(range(2, STEPS)), without=(), late=False):
    """Two layers; in the steps of ``off`` the reference is off, and those of ``without`` are computed without it."""
    g = torch.Generator().manual_seed(1)
    recorder = Recorder(torch.linspace(1, 0, STEPS + 1), 2, budget)
    number = recorder.reference(REFERENCE)
    for step in range(STEPS):
        for layer in LAYERS:
            q, k = (torch.randn(2, layer.heads, x, 4, generator=g) for x in (layer.grid.cells, REFERENCE.tokens + 3))
            (m,) = attribute(q, k, [span("reference", 3, REFERENCE.grid)])
            place = Place(layer, step, number, step, REFERENCE.grid)
            if step in on:
                recorder.add(place, m)
            elif step in off:
                zero = zero_maps(layer, 2, REFERENCE.tokens, False, None, torch.device("cpu"))
                recorder.off(place, zero, "an adapter", "its weight is 0")
        if step in (*on, *off, *without):
            recorder.evaluated(step, "computed", {"a", "b"})
        if step in without:
            recorder.off_in_step(number, step, "it is not there")
    return recorder.freeze(grid=FINE)


def budgets():
    """From everything to next to nothing."""
    return [BIG_BUDGET, *(2**n * 100 for n in range(9, 4, -1))]


@pytest.mark.parametrize("budget", budgets())
@pytest.mark.parametrize("kind", UNSCOPED, ids=lambda kind: kind.key)
def test_the_mean_is_over_the_steps_in_which_it_is_off_too(budget, kind):
    on_alone = run(off=())
    for attribution in (run(budget), run(budget, off=(), without=range(2, STEPS))):
        for level in ("unified", "layer"):
            got, expected = (maps(x, kind, level).values for x in (attribution, on_alone))
            torch.testing.assert_close(got, expected * len(ON) / STEPS, rtol=2e-2, atol=1e-4)
        assert sum(entry.seen.sum() for entry in attribution.entries.values()) == STEPS * len(LAYERS)


def test_details_are_several():
    assert len({(x.heads, len(x.bins)) for x in map(run, budgets())}) > 2


def test_heads_are_means_over_these_steps_too():
    for budget in budgets():
        attribution = run(budget)
        if attribution.heads != "merged":
            got, expected = (maps(x, SHARE, "head").values for x in (attribution, run(off=())))
            torch.testing.assert_close(got, expected * len(ON) / STEPS, rtol=2e-2, atol=1e-4)


def test_labels_tell_them_apart(tmp_path):
    attribution = run(off=(2, 3), without=(4,))
    labels = maps(attribution, SHARE, "time", time_groups=0).labels
    states = [label.partition(" (")[2].rstrip(")") for label in labels]
    assert states == ["", "", "off", "off", "off", "not evaluated"]
    assert maps(attribution, SHARE, "time", Selection(steps="1-2"), time_groups=1).labels[0].endswith("0.833")
    path = tmp_path / "a.i2am.safetensors"
    save(attribution, path)
    assert maps(load(path), SHARE, "time", time_groups=0).labels == labels
    view(attribution, 2**20)


def labels_of(attribution, groups=0, **selected):
    return [x.endswith("(off)") for x in maps(attribution, SHARE, "time", Selection(**selected), groups).labels]


def test_maps_of_0_alone_are_not_off():
    """As those of the picture of a batch that is the reference itself, also where it is alone in the attribution."""
    recorder = Recorder(torch.linspace(1, 0, 3), 2, BIG_BUDGET)
    number = recorder.reference(REFERENCE)
    for step in range(2):
        zero = zero_maps(LAYERS[0], 2, REFERENCE.tokens, False, None, torch.device("cpu"))
        recorder.add(Place(LAYERS[0], step, number, step, REFERENCE.grid), zero)
    attribution = recorder.freeze(grid=FINE)
    for one in (attribution, of_items(attribution, [0])):
        assert not maps(one, SHARE).values.any() and labels_of(one) == [False, False]


@pytest.mark.parametrize("budget", budgets())
def test_off_is_what_was_observed_in_every_detail(budget):
    attribution = run(budget, on=(0, 1, 2), off=(3, 4, 5))
    assert attribution.entries[0, 0].off == (3, 4, 5)
    assert labels_of(attribution) == [set(steps) <= {3, 4, 5} for steps in attribution.bins]
    if len(attribution.bins) == STEPS:
        assert labels_of(attribution, groups=2) == [False, True] and labels_of(attribution, groups=1) == [False]


def test_off_in_one_layer_alone():
    recorder = Recorder(torch.linspace(1, 0, 3), 2, BIG_BUDGET)
    number = recorder.reference(REFERENCE)
    for step, layer in ((0, LAYERS[0]), (0, LAYERS[1]), (1, LAYERS[1])):
        place = Place(layer, step, number, step, REFERENCE.grid)
        zero = zero_maps(layer, 2, REFERENCE.tokens, False, None, torch.device("cpu"))
        recorder.add(place, zero) if layer is LAYERS[0] else recorder.off(place, zero, "an adapter", "why")
    attribution = recorder.freeze(grid=FINE)
    assert labels_of(attribution) == [False, True]  # nothing else was captured in step 1
    assert labels_of(attribution, layers="1") == [True, True] and labels_of(attribution, layers="0") == [False, False]


@pytest.mark.parametrize(
    "off", [{"0/9": [1]}, {"0/0": [0]}, {"0/0": [6]}, {"0/0": [3, 2]}, {"0/0": 2}, [], {"0/0": [1.5]}]
)
def test_a_file_is_off_only_where_it_can_be(tmp_path, off):
    """Not in steps that no run has, nor in those that were not seen."""
    attribution, path = run(on=(1,), off=(2, 3)), tmp_path / "a.i2am.safetensors"
    save(attribution, path)
    assert load(path).entries[0, 1].off == (2, 3)
    rewrite(path, lambda header: header | {"off": off})
    with pytest.raises(BadFile):
        load(path)


def rewrite(path, change):
    """The same file with another header, whose checksum is right."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = json.dumps(change(json.loads(file.metadata()[header.KEY])))
    save_file(tensors, path, metadata={header.KEY: text, checksum.KEY: checksum.checksum(text, tensors)})


def test_what_is_said():
    notes = run(off=(2, 3), without=(4,)).notes
    assert "'reference' is off in steps 2-4 of 6, where its maps are 0: its weight is 0; it is not there" in notes
    assert any(note.startswith("in 1 of 6 steps (5) the model was not evaluated") for note in notes)
    assert (
        "'reference' is off in all steps, where its maps are 0: its weight is 0" in run(on=(), off=range(STEPS)).notes
    )


def test_retracted_layers_say_nothing():
    recorder = Recorder(torch.linspace(1, 0, 3), 1, BIG_BUDGET)
    number = recorder.reference(REFERENCE)
    zero = zero_maps(LAYERS[0], 1, REFERENCE.tokens, True, torch.arange(3), torch.device("cpu"))
    assert zero.g2r_pairs.shape == (1, 3, 12) and zero.g2r_share_scope.shape == (1, 3, 12)
    recorder.off(Place(LAYERS[0], 0, number, 0, REFERENCE.grid), zero, "an adapter", "its weight is 0", torch.arange(3))
    recorder.retract(["a"], "not to be trusted")
    attribution = recorder.freeze(grid=FINE)
    assert not attribution.entries and not attribution.notes


def test_an_evaluation_in_which_it_is_off_counts_within_its_step():
    """As of a sampler that evaluates a step twice, at the end of an adapter's range."""
    g = torch.Generator().manual_seed(1)
    layer, device = LAYERS[0], torch.device("cpu")
    q, k = (torch.randn(2, layer.heads, x, 4, generator=g) for x in (layer.grid.cells, REFERENCE.tokens + 3))
    (m,) = attribute(q, k, [span("reference", 3, REFERENCE.grid)])
    recorder = Recorder(torch.linspace(1, 0, 2), 2, BIG_BUDGET)
    number = recorder.reference(REFERENCE)
    recorder.add(Place(layer, 0, number, 0, REFERENCE.grid), m)
    zero = zero_maps(layer, 2, REFERENCE.tokens, False, None, device)
    recorder.off(Place(layer, 0, number, 1, REFERENCE.grid), zero, "an adapter", "why")
    attribution = recorder.freeze(grid=FINE)
    for kind in UNSCOPED:
        torch.testing.assert_close(attribution.entries[0, 0].maps[kind.key][:, 0], getattr(m, kind.key) / 2)
    assert not any("off" in note for note in attribution.notes)


def steps_of_all_kinds(caches=()):
    steps = StepAccount([6.0, 5.0, 4.0, 3.0, 3.0, 2.0, 1.0, 0.0], caches)
    assert steps.not_evaluated == ()  # nothing is known
    steps.add(1, "from memory")
    assert steps.not_evaluated == ()  # no block was seen in any step, so that it may be one that cannot be seen
    steps.add(0, "computed", {"block 10", "block 9"})
    steps.add(2, "not active")
    steps.add(4, "without the branch")
    steps.add(6, "from memory")
    steps.add(6, "computed", {"block 9"})
    assert steps.not_evaluated == (1, 2, 4, 5)  # not 3, which has no length
    return steps.notes


@pytest.mark.parametrize("caches", [(), ("ACache",), ("ACache", "another")])
def test_steps_and_their_reasons(caches):
    """A cache is the reason where the model was called and no block ran; where it was not called, it may be."""
    cache = f"a cache answered ({', '.join(caches)})"
    perhaps = f"{cache}, that another node answered from memory" if caches else FROM_MEMORY
    reasons = {
        cache if caches else FROM_MEMORY: "1",
        NOT_ACTIVE: "2",
        OTHER_BRANCH: "4",
        NO_EVALUATION.format(perhaps): "5",
    }
    notes = steps_of_all_kinds(caches)
    for note, (reason, number) in zip(notes, reasons.items(), strict=False):
        assert note.startswith(f"in 1 of 7 steps ({number}) the model was not evaluated for these maps: {reason}. A")
    assert notes[-1].startswith(f"block 10 ran in 1 of 7 steps alone (0): {PART.format(perhaps)}. Their")
    assert len(notes) == 5


def test_many_layers_are_not_all_named():
    steps = StepAccount([2.0, 1.0, 0.0])
    steps.add(0, "computed", {f"block {n}" for n in range(12)})
    steps.add(1, "computed", {"block 0"})
    assert steps.notes[0].startswith("block 1, block 2, block 3 and 8 more ran in 1 of 2 steps alone (0): ")


@pytest.mark.parametrize("steps", [[6], [-1], [1, 0], [1, 1], ["0"], 3, None, [True]])
def test_steps_that_no_run_has_are_refused(tmp_path, steps):
    attribution = run()
    text = header.header_text(dataclasses.replace(attribution, not_evaluated=(0,)))
    assert '"not_evaluated": [0]' in text
    changed = json.loads(text) | {"not_evaluated": steps}
    with pytest.raises((ValueError, BadFile)):
        header.described(changed, header.version_of(attribution))


def test_a_map_of_zeros_is_flat():
    values = torch.stack([torch.zeros(3, 4), torch.ones(3, 4), torch.eye(3, 4)])
    got = concentration(values)
    assert got[0] == pytest.approx(0, abs=1e-6) and got[1] == pytest.approx(0, abs=1e-6) and got[2] > 0.3

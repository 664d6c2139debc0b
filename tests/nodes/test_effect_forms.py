"""The forms over effects: Maps, Specific Reference, IMACS, Counterfactual and Collect, on effects made by hand."""

import dataclasses
import json
import math

import pytest
import torch
import workflow
from effects_by_hand import (
    FLOOR,
    LARGEST,
    MEASURED,
    REGIONS,
    SECOND,
    measured,
    noise,
    video,
    with_effects,
    with_second,
    without_attention,
)

from i2am_pack.i2am_core import Removal
from i2am_pack.i2am_core.showing import render
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.counterfactual import I2AMCounterfactual
from i2am_pack.nodes.effect import I2AMEffect
from i2am_pack.nodes.imacs import I2AMIMACS
from i2am_pack.nodes.maps import I2AMMaps
from i2am_pack.nodes.specific_reference import I2AMSpecificReference
from i2am_pack.nodes.steer import I2AMSteer

SELECTION = dict(steps="all", layers="all", heads="all", reference=0, item=0)
MAPS = SELECTION | dict(
    direction="reference to generated", level="unified", normalization="effect", scope="auto", time_groups=5,
    colormap="jet", scale="each map", opacity=0.5,
)  # fmt: skip
SPECIFIC = SELECTION | dict(direction="generated to reference", colormap="jet", opacity=0.5)
IMACS = SELECTION | dict(scope="auto", penalty=3.0, threshold=0.4)
ON_REFERENCE = dict(direction="generated to reference")


@pytest.fixture(scope="module")
def graph():
    return workflow.make(batch=2)


@pytest.fixture(scope="module")
def plain(graph):
    """Attention alone."""
    return graph.attribution(steps=5)


@pytest.fixture(scope="module")
def one(plain):
    """One reference, taken away through everything."""
    return measured(plain)


@pytest.fixture(scope="module")
def several(plain):
    """Two references, the text, all of them by both routes, and regions by both cuts."""
    routes, cuts = ("everything", "directly"), ("taken away", "only this left")
    return measured(with_second(plain), (0, 1, "all references", "text"), routes, cuts)


@pytest.fixture(scope="module")
def alone(plain):
    """What a conditioning to compare with lacks, and nothing of attention."""
    return measured(without_attention(plain), ("conditioning",), regions=())


def show(attribution, **changes):
    *pictures, labels = I2AMMaps.execute(attribution, **MAPS | changes).args
    return *pictures, labels.splitlines()


def by_hand(attribution, owner=0, route="everything", steps=MEASURED, item=0):
    """The mean over steps of an effect ``[h, w]``."""
    grid = attribution.grid
    maps = [attribution.effects.maps[step, owner, route][item].double() for step in steps]
    return (sum(maps) / len(maps)).view(grid.height, grid.width).float()


def same(mask, values, blocks=False):
    torch.testing.assert_close(mask, render.heat(values, mask.shape[-2:], blocks=blocks), atol=1e-5, rtol=1e-5)


class TestMaps:
    @pytest.mark.parametrize("item", [0, 1])
    def test_what_is_drawn_is_the_effect(self, one, item):
        overlay, heatmap, mask, (label,) = show(one, item=item, image=torch.rand(1, 64, 64, 3))
        values = by_hand(one, item=item)
        same(mask, values[None])
        assert overlay.shape == heatmap.shape == (1, 64, 64, 3)
        assert label == (
            "unified | reference to generated, effect of reference 0 ('demo reference') | "
            f"{values.min():.3g} to {values.max():.3g} latent units, measured"
        )

    def test_time_has_each_measured_step(self, one):
        _, _, mask, labels = show(one, level="time", time_groups=1)
        same(mask, torch.stack([by_hand(one, steps=[step]) for step in MEASURED]))
        assert [label.split(",")[0] for label in labels] == ["step 0", "step 2", "step 3"]
        assert all(label.endswith(" latent units, measured") for label in labels)

    def test_selected_steps(self, one):
        same(show(one, steps="2-4")[2], by_hand(one, steps=[2, 3])[None])

    @pytest.mark.parametrize(
        ("effect_of", "reference", "owner"),
        [("reference", 0, 0), ("reference", 1, 1), ("all references", 0, "all references"), ("text", 1, "text")],
    )
    @pytest.mark.parametrize("route", ["everything", "directly"])
    def test_of_whom_and_through_what(self, several, effect_of, reference, owner, route):
        _, _, mask, (label,) = show(several, effect_of=effect_of, reference=reference, effect_through=route)
        same(mask, by_hand(several, owner, route)[None])
        assert (", directly |" in label) == (route == "directly")
        assert {0: "'demo reference'", 1: "'coat'", "text": "the text"}.get(owner, "all references together") in label

    def test_level_reference_has_each_owner_the_strongest_first(self, several):
        _, _, mask, labels = show(several, level="reference")
        same(mask, torch.stack([by_hand(several, owner) for owner in ("text", "all references", 0, 1)]))
        assert ["the text" in labels[0], "all references" in labels[1], "'coat'" in labels[3]] == [True] * 3
        assert all(" | reference to generated, effect | " in label for label in labels)

    def test_one_reference_is_all_references(self, one):
        same(show(one, effect_of="all references")[2], by_hand(one)[None])

    def test_without_any_attention(self, alone):
        _, _, mask, (label,) = show(alone)
        same(mask, by_hand(alone, "conditioning")[None])
        assert "effect of what the conditioning 'without' lacks | " in label
        same(show(alone, effect_of="what without lacks")[2], mask)

    def test_regions_on_the_reference(self, one, graph):
        """Of each region the root mean square over the inpainting mask, or over the whole picture."""
        effects = one.effects.regions[0, "taken away"].values[1].double()
        for scope, positions in (("auto", one.mask_on_latent()[1]), ("whole image", slice(None))):
            _, _, mask, (label,) = show(one, **ON_REFERENCE, item=1, scope=scope, image=graph.scene["reference"])
            values = effects[:, positions].square().mean(1).sqrt().float()
            same(mask, values.view(1, REGIONS.height, REGIONS.width), blocks=True)
            scope = "inpainting mask" if scope == "auto" else scope
            assert f" | generated to reference, effect of reference 0 ('demo reference'), scope {scope} | " in label
            assert label.startswith("regions, taken away, step 2, sigma") and label.endswith("latent units, measured")

    def test_an_effect_of_exactly_zero_is_said(self, one):
        nothing = with_effects(one, maps={removal: 0 * x for removal, x in one.effects.maps.items()})
        _, _, mask, (label,) = show(nothing)
        assert not mask.any() and "no effect: not a digit changes" in label and not label.endswith("measured")

    def test_what_cannot_be_told_from_rounding_is_no_map(self, one):
        weak = with_effects(one, maps={removal: 1e-3 * x for removal, x in one.effects.maps.items()})
        with pytest.raises(
            ValueError, match=r"too small for a map: 0.00\d+ latent units, and the noise floor is 0.001"
        ):
            show(weak)
        mixed = with_effects(one, maps={key: x * (1e-3 if key.step == 2 else 1) for key, x in one.effects.maps.items()})
        _, _, mask, labels = show(mixed, level="time")
        assert [bool(x.any()) for x in mask] == [True, False, True]
        assert "too small to measure" in labels[1] and not labels[1].endswith("measured")

    def test_frames_of_a_video(self):
        of_video = measured(video(), ("conditioning",), regions=())
        frames = sum(of_video.effects.maps[step, "conditioning", "everything"][0] for step in MEASURED) / 3
        _, _, mask, labels = show(of_video, level="frame")
        same(mask, frames.view(3, 4, 6))
        same(show(of_video)[2], frames.view(3, 4, 6).mean(0, keepdim=True))
        assert [label[:7] for label in labels] == ["frame 0", "frame 1", "frame 2"]
        assert all(label.endswith("measured") for label in labels)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (dict(level="head"), "effects have no heads and no layers: set heads and layers to 'all', and level to"),
            (dict(level="layer"), "effects have no heads and no layers"),
            (dict(layers="0-1"), "effects have no heads and no layers"),
            (dict(heads="1"), "effects have no heads and no layers"),
            (dict(steps="1,4"), "steps '1,4', but in 0, 2, 3: set steps to some of these, or to 'all'"),
            (dict(effect_of="text"), "not measure the effect of the text, but that of .* set owners of I2AM Effect"),
            (dict(effect_of="what without lacks"), "connect 'without' of I2AM Effect and sample again"),
            (dict(effect_through="directly"), "directly, but through everything: set effect_through to 'everything'"),
            (dict(reference=2), "reference 2 does not exist: this run has 1"),
            (dict(item=2), "item 2 does not exist"),
            (dict(level="frame"), "level 'frame' is for videos"),
            (
                ON_REFERENCE | dict(level="time"),
                "no level 'time', since regions are measured .* set level to 'unified'",
            ),
            (
                ON_REFERENCE | dict(effect_of="text"),
                "the text is not measured in regions: set effect_of to 'reference'",
            ),
            (ON_REFERENCE | dict(steps="0"), "regions of reference 0 .* in steps '0', but in 2: set steps"),
            (dict(effect_of="somebody"), "effect_of of I2AM Maps is 'somebody': choose one of reference, all"),
            (dict(effect_through="air"), "effect_through of I2AM Maps is 'air': choose one of everything, directly"),
        ],
    )
    def test_bad_input_is_one_clear_sentence(self, one, changes, message):
        with pytest.raises(ValueError, match=message):
            show(one, **changes)

    def test_what_was_not_measured_is_said(self, plain, one, alone):
        with pytest.raises(ValueError, match="no effect was measured in this run: place I2AM Effect beside I2AM Capt"):
            show(plain)
        tried = with_effects(one, maps={}, regions={}, unmeasured={"reference 0": "out of memory"})
        with pytest.raises(
            ValueError, match=r"I2AM Effect measured nothing in this run \(reference 0: out of memory\)"
        ):
            show(tried)
        with pytest.raises(
            ValueError, match=r"no regions of reference 0 .* set regions of I2AM Effect, to 4 for example"
        ):
            show(with_effects(one, regions={}), **ON_REFERENCE)
        with pytest.raises(ValueError, match="the conditioning 'without' lacks is not measured in regions"):
            show(alone, **ON_REFERENCE)

    @pytest.mark.parametrize("normalization", ["paper", "share"])
    def test_attention_that_is_not_there_is_said(self, alone, normalization):
        with pytest.raises(ValueError, match=r"no attention to a reference was captured in this run.*'effect'"):
            show(alone, normalization=normalization)

    def test_attention_stays_as_it_is(self, plain, several):
        for level in ("unified", "layer"):
            before, now = (show(x, normalization="share", level=level) for x in (plain, several))
            assert all(map(torch.equal, before[:3], now[:3])) and before[3] == now[3]


class TestSpecificReference:
    def answer(self, attribution, region, **changes):
        return I2AMSpecificReference.execute(attribution, region, **SPECIFIC | changes).args

    @pytest.mark.parametrize("cut", ["taken away", "only this left"])
    def test_which_regions_changed_a_part_of_the_picture(self, several, cut):
        region = torch.zeros(1, 16, 16)
        region[:, 4:9, 2:5] = 1
        _, _, mask = self.answer(several, region, item=1, by=f"effect: {cut}", image=torch.rand(1, 48, 48, 3))
        effects = several.effects.regions[0, cut].values[1].double()
        values = effects[:, region.flatten() > 0].square().mean(1).sqrt().float()
        same(mask, values.view(1, REGIONS.height, REGIONS.width), blocks=True)

    def test_where_a_part_of_the_reference_changed_the_picture(self, several):
        """The left third of the reference is the first column of its regions."""
        region = torch.zeros(1, 48, 48)
        region[..., :16] = 1
        changes = dict(direction="reference to generated", by="effect: taken away")
        _, _, mask = self.answer(several, region, **changes, image=torch.rand(1, 16, 16, 3))
        effects = several.effects.regions[0, "taken away"].values[0].double()
        reference = several.references[0].grid
        columns = torch.arange(reference.width) * REGIONS.width // reference.width
        weights = [float(region[0, 0].view(reference.width, -1).mean(1)[columns == n].mean()) for n in range(3)] * 2
        values = sum(w * x.square() for w, x in zip(weights, effects, strict=True)).sqrt().float()
        same(mask, values.view(1, 16, 16))

    def test_attention_stays_the_default(self, plain, several):
        region = torch.ones(1, 64, 64)
        for changes in ({}, {"by": "attention"}):
            assert all(map(torch.equal, self.answer(plain, region), self.answer(several, region, **changes)))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (dict(by="effect: only this left"), r"in this way, but taken away: choose that \(in by,"),
            (
                dict(by="guessing"),
                "by of I2AM Specific Reference is 'guessing': choose one of attention, effect: taken",
            ),
            (dict(by="effect: taken away", layers="0"), "effects have no heads and no layers"),
            (dict(by="effect: taken away", steps="0"), "regions of reference 0 .* but in 2"),
        ],
    )
    def test_bad_input_is_one_clear_sentence(self, one, changes, message):
        with pytest.raises(ValueError, match=message):
            self.answer(one, torch.ones(1, 64, 64), **changes)

    def test_what_was_not_measured_is_said(self, plain, one, alone):
        region, by = torch.ones(1, 64, 64), dict(by="effect: taken away")
        with pytest.raises(ValueError, match="no effect was measured in this run: place I2AM Effect"):
            self.answer(plain, region, **by)
        with pytest.raises(ValueError, match=r"no regions of reference 0 .* set regions of I2AM Effect"):
            self.answer(with_effects(one, regions={}), region, **by)
        for changes in ({}, by):
            with pytest.raises(
                ValueError, match="reference 0 does not exist: no attention to a reference was captured"
            ):
                self.answer(alone, region, **changes)


class TestIMACS:
    def score(self, attribution, **changes):
        r2g, g2r, report = I2AMIMACS.execute(attribution, **IMACS | changes).args
        return r2g, g2r, json.loads(report)

    @pytest.mark.parametrize("item", [0, 1])
    def test_the_part_of_the_effect_in_the_mask(self, one, item):
        mask = torch.zeros(1, 64, 64)
        mask[:, 16:40, 8:32] = 1
        inside = mask[0, ::4, ::4].flatten() > 0
        effect = self.score(one, inpainting_mask=mask, item=item)[2]["effect"]
        maps = [one.effects.maps[Removal(step, 0)][item].double() for step in MEASURED]
        rms = lambda values: sum(x.square().mean().sqrt().item() for x in values) / 3  # noqa: E731
        assert effect == {
            "of": "reference 0 ('demo reference')",
            "through": "everything",
            "steps": list(MEASURED),
            "part_inside": pytest.approx(sum((x[inside].sum() / x.sum()).item() for x in maps) / 3, abs=1e-4),
            "mask_area": pytest.approx(inside.double().mean().item(), abs=1e-4),
            "strength_inside": pytest.approx(rms([x[inside] for x in maps]), rel=1e-3),
            "strength": pytest.approx(rms(maps), rel=1e-3),
            "floor": pytest.approx(FLOOR),
            "certainty": "measured",
        }

    def test_nothing_else_changes(self, plain, one):
        before, now = self.score(plain), self.score(one)
        assert before[0] == now[0] and math.isnan(before[1]) and math.isnan(now[1])
        assert before[2].pop("effect") == {"reason": "no I2AM Effect was on the MODEL line of this run"}
        assert "part_inside" in now[2].pop("effect") and before[2] == now[2]

    @pytest.mark.parametrize(("factor", "certainty"), [(1e-3, "too small to measure"), (0.0, "none"), (0.008, "rough")])
    def test_noise_has_no_part_inside(self, one, factor, certainty):
        weak = with_effects(one, maps={removal: factor * x for removal, x in one.effects.maps.items()})
        effect = self.score(weak)[2]["effect"]
        assert effect["certainty"] == certainty and (effect["part_inside"] is None) == (certainty != "rough")

    def test_why_there_is_no_effect(self, several, one):
        effect = self.score(with_effects(one, maps={}, unmeasured={"reference 0": "out of memory"}))[2]["effect"]
        why = "I2AM Effect measured nothing in this run (reference 0: out of memory): see to that, and sample again."
        assert effect == {"reason": why}
        only_text = measured(several, ("text",))
        assert "did not measure the effect of reference 0" in self.score(only_text)[2]["effect"]["reason"]

    def test_effects_without_attention_have_no_score(self, alone, graph):
        r2g, g2r, report = self.score(alone, reference_mask=graph.scene["reference_mask"])
        assert math.isnan(r2g) and math.isnan(g2r)
        for score in (report["r2g"], report["g2r"]):
            assert score["score"] is None and score["reason"].startswith("no attention to a reference was captured")
        assert report["effect"]["of"] == "what the conditioning 'without' lacks"
        assert 0 < report["effect"]["part_inside"] < 1
        for mask, problem in ((torch.zeros(1, 64, 64), "empty"), (torch.ones(1, 64, 64), "full")):
            with pytest.raises(ValueError, match=f"the mask is {problem}"):
                self.score(alone, inpainting_mask=mask)


class TestCounterfactual:
    def without(self, attribution, step=-1, reference=0, item=0, **changes):
        with_, without, label = I2AMCounterfactual.execute(attribution, step, reference, item, **changes).args
        assert with_.keys() == without.keys() == {"samples"}
        assert with_["samples"].dtype == without["samples"].dtype == torch.float32
        return with_["samples"], without["samples"], label

    @pytest.mark.parametrize("step", MEASURED)
    @pytest.mark.parametrize("item", [0, 1])
    def test_the_latents_of_a_step(self, several, step, item):
        predictions = several.effects.predictions
        for reference, changes, owner in (
            (0, {}, 0),
            (1, {}, 1),
            (-1, {}, "all references"),
            (1, {"effect_of": "all references"}, "all references"),
            (0, {"effect_of": "text"}, "text"),
        ):
            with_, without, label = self.without(several, step, reference, item, **changes)
            assert torch.equal(with_, predictions[step, None][item : item + 1].float())
            assert torch.equal(without, predictions[step, owner][item : item + 1].float())
            assert f"as seen from step {step} of 5 (from 0), sigma " in label

    def test_the_label_says_how_much_changes(self, one):
        _, _, label = self.without(one, step=0, item=1)
        inside = one.mask_on_latent()[1]
        strength = one.effects.maps[Removal(0, 0)][1][inside].double().square().mean().sqrt()
        assert label.startswith("without reference 0 ('demo reference'), as seen from step 0")
        assert label.endswith(f": changes {strength:.3g} latent units in the mask, measured")
        nothing = with_effects(one, maps={removal: 0 * x for removal, x in one.effects.maps.items()})
        assert self.without(nothing)[2].endswith("changes 0 latent units in the mask, no effect: not a digit changes")

    def test_by_itself_it_takes_the_step_in_which_most_changes(self, one):
        assert max(LARGEST, key=LARGEST.get) == 2
        assert "as seen from step 2 " in self.without(one)[2]
        others = {key: x for key, x in one.effects.predictions.items() if key[0] != 2}
        assert "as seen from step 0 " in self.without(with_effects(one, predictions=others))[2]

    def test_the_first_of_its_ways(self, plain):
        directly = measured(plain, routes=("directly",))
        with_, without, label = self.without(directly)
        assert not torch.equal(with_, without) and ", by the picture's own positions alone, as seen" in label

    def test_one_reference_is_all(self, one):
        assert torch.equal(self.without(one, reference=-1)[1], self.without(one)[1])

    def test_without_any_attention(self, alone):
        _, without, label = self.without(alone, 3)
        assert torch.equal(without, alone.effects.predictions[3, "conditioning"][:1].float())
        assert label.startswith("without what the conditioning 'without' lacks, as seen from step 3")

    def test_a_video_stays_one(self):
        of_video = measured(video(), ("conditioning",), regions=())
        with_, without, label = self.without(of_video)
        assert with_.shape == without.shape == (1, 48, 3, 4, 6) and "in the mask" not in label

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                dict(step=1),
                "not measure this in step 1: set step to one of 0, 2, 3, or to -1 for the one in which most",
            ),
            (dict(step=99), "not measure this in step 99"),
            (dict(step=-2), "step of I2AM Counterfactual is -2: give a whole number from -1"),
            (dict(reference=1), "reference 1 does not exist"),
            (dict(item=2), "item 2 does not exist"),
            (dict(effect_of="text"), "did not measure the effect of the text"),
            (dict(effect_of="all"), "effect_of of I2AM Counterfactual is 'all': choose one of"),
        ],
    )
    def test_bad_input_is_one_clear_sentence(self, one, given, message):
        with pytest.raises(ValueError, match=message):
            self.without(one, **given)

    def test_what_was_not_kept_is_said(self, plain, one):
        with pytest.raises(
            ValueError, match=r"predictions with and without it were not kept .*: raise budget_mb of I2AM Capture"
        ):
            self.without(measured(plain, predicted=()))
        with pytest.raises(
            ValueError, match="predictions of step 3 were not kept within budget_mb: set step to one of 0, 2"
        ):
            self.without(measured(plain, predicted=(0, 2)), 3)
        half = {key: x for key, x in one.effects.predictions.items() if key != (0, None)}
        with pytest.raises(ValueError, match="predictions of step 0 were not kept"):
            self.without(with_effects(one, predictions=half), 0)

    def test_what_was_not_measured_is_said(self, plain, one):
        with pytest.raises(ValueError, match="no effect was measured in this run: place I2AM Effect"):
            self.without(plain)
        with pytest.raises(ValueError, match=r"I2AM Effect measured nothing in this run \(the text: no tokens\)"):
            self.without(with_effects(one, maps={}, unmeasured={"the text": "no tokens"}))

    def test_what_nothing_reads_has_one_latent(self, one):
        """The effect is exactly 0, so that the model is not evaluated without it."""
        zero = {Removal(step, "text"): torch.zeros_like(one.effects.floor) for step in MEASURED}
        unread = with_effects(one, maps={**one.effects.maps, **zero})
        with_, without, label = self.without(unread, 3, effect_of="text")
        assert torch.equal(with_, without) and torch.equal(with_, self.without(one, 3)[0])
        assert label.endswith("no effect: not a digit changes")

    def test_the_stock_vae_decodes_both(self, graph, one):
        import nodes as comfyui_nodes

        for latent in I2AMCounterfactual.execute(one, -1, 0, 1).args[:2]:
            (image,) = comfyui_nodes.VAEDecode().decode(graph.vae, latent)
            assert image.shape == (1, 64, 64, 3)


class TestCollect:
    @pytest.fixture
    def collect(self, graph):
        """What Collect makes of a run that gave this attribution."""

        def collected(attribution):
            _, handle = graph.capture()
            handle.keep(attribution, [samples := noise(1, 2, 4, 8, 8)])
            return I2AMCollect.execute(handle, {"samples": samples}).args

        return collected

    def test_effects_are_enough(self, collect, alone):
        attribution, _, summary = collect(alone)
        assert attribution is alone
        assert "effect of what the conditioning 'without' lacks" in summary

    def test_an_effect_of_zero_is_a_measurement(self, collect, alone):
        nothing = with_effects(alone, maps={removal: 0 * x for removal, x in alone.effects.maps.items()})
        assert "none at all: not a digit changes" in collect(nothing)[2]

    def test_nothing_at_all_has_both_reasons(self, collect, alone):
        none = with_effects(alone, maps={}, unmeasured={"the text": "no tokens", "reference 0": "out of memory"})
        none = dataclasses.replace(none, given=())
        unread = dataclasses.replace(none, skipped={"cross-attention": 3}, branch="positive")
        why = r"\(the text: no tokens; reference 0: out of memory\)\.$"
        with pytest.raises(ValueError, match=rf"3 x cross-attention.* I2AM Effect measured nothing {why}"):
            collect(unread)
        unseen = dataclasses.replace(none, skipped={}, notes=("the model is compiled",))
        with pytest.raises(
            ValueError, match=r"observed no attention call: the model is compiled\. I2AM Effect measured"
        ):
            collect(unseen)

    def test_without_effect_on_the_line_it_is_what_to_do(self, collect, alone):
        bare = dataclasses.replace(alone, effects=None, given=(), skipped={"cross-attention": 3})
        with pytest.raises(
            ValueError, match=r"or choose another branch\. What .* by I2AM Effect, with its input without\.$"
        ):
            collect(bare)


@pytest.fixture(scope="module")
def run(graph):
    model, handle = graph.capture()
    out = graph.sample(I2AMEffect.execute(model, 1, 2, "both", "both", "references and text").args[0], steps=1)
    return I2AMCollect.execute(handle, out).args[0], out["samples"]


class TestARun:
    """Of one step of Euler's, whose latent is what the model aims at."""

    @pytest.mark.parametrize("item", [0, 1])
    def test_the_latents_are_those_of_runs_with_and_without_it(self, graph, run, item):
        attribution, samples = run
        muted = I2AMSteer.execute(
            graph.model, 0.0, "attention", -1, "everything", "both", "all", "all", "all", "auto"
        ).args[0]
        expected = samples, graph.sample(muted, steps=1)["samples"]
        latents = I2AMCounterfactual.execute(attribution, 0, 0, item).args[:2]
        for latent, whole in zip(latents, expected, strict=True):
            torch.testing.assert_close(latent["samples"], whole[item : item + 1].cpu(), atol=1e-5, rtol=1e-5)
        assert (expected[0] - expected[1]).abs().max() > 0.1

    def test_the_map_is_their_difference(self, run):
        attribution, _ = run
        _, _, mask, (label,) = show(attribution)
        with_, without = (x["samples"] for x in I2AMCounterfactual.execute(attribution, 0, 0, 0).args[:2])
        inside = attribution.mask_on_latent()[0].view(16, 16)
        difference = (with_ - without)[0].double().square().mean(0).sqrt().float()
        torch.testing.assert_close(by_hand(attribution, steps=[0])[inside], difference[inside], atol=1e-5, rtol=1e-5)
        same(mask, by_hand(attribution, steps=[0])[None])
        assert label.endswith(" latent units, measured")

    def test_what_could_not_be_measured_has_its_reason(self, run):
        """The demo model has no text at all."""
        why = r"of the text \(the conditioning has no tokens of text in .*\), but that of .*: choose one of these in"
        for use in (
            lambda: I2AMCounterfactual.execute(run[0], 0, 0, 0, "text"),
            lambda: show(run[0], effect_of="text"),
        ):
            with pytest.raises(ValueError, match=why):
                use()

    @pytest.mark.parametrize("cut", ["taken away", "only this left"])
    def test_regions_answer(self, graph, run, cut):
        region = torch.zeros(1, 64, 64)
        region[:, 16:40, 8:32] = 1
        mask = I2AMSpecificReference.execute(run[0], region, **SPECIFIC, by=f"effect: {cut}").args[2]
        assert mask.max() == 1 and mask.min() == 0


def test_regions_that_could_not_be_measured_have_their_reason(one):
    reasons = {"regions of reference 0 ('demo reference')": "their maps do not fit"}
    tried = with_effects(one, regions={}, unmeasured=reasons)
    why = r"regions of reference 0 \('demo reference'\) were not measured: their maps do not fit\."
    with pytest.raises(ValueError, match=why):
        show(tried, **ON_REFERENCE)
    with pytest.raises(ValueError, match=why):
        I2AMSpecificReference.execute(tried, torch.ones(1, 64, 64), **SPECIFIC, by="effect: taken away")
    assert "measured" in show(tried)[3][0]


def test_a_reference_without_a_layout_has_no_regions(several):
    with pytest.raises(ValueError, match=f"no regions of reference 1 \\('{SECOND.name}'\\) were measured"):
        show(several, **ON_REFERENCE, reference=1)

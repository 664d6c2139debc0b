"""Steering where it was attacked and held: few heads of keys, little memory, another order of references."""

import comfy.model_management
import pytest
import tiny_graphs
import torch
import torch.nn.functional as F
from by_hand import ByHand
from comfy.patcher_extension import WrappersMP
from mechanisms import steered
from steered_graphs import close, differ, kontext
from steered_oracle import Run


def left(height, width):
    mask = torch.zeros(1, height, width)
    mask[..., : width // 2] = 1
    return mask


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": "9"}, "'9' is out of range"),
        ({"reference": 0, "reference_region": torch.ones(1, 64, 64)}, "another aspect"),
    ],
)
def test_what_does_not_exist_ends_the_run_in_its_first_evaluation(settings, message):
    graph, calls = kontext(), []

    def count(executor, *args, **kwargs):
        calls.append(1)
        return executor(*args, **kwargs)

    model = graph.model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "count", count)
    with pytest.raises(ValueError, match=message):
        graph.sample(steered(model, 0.5, steps="3", **settings), steps=4)
    assert len(calls) == 1


@pytest.mark.parametrize("free", [0, 2**40])
def test_a_region_for_each_picture_with_guidance_in_one_call_or_two(free, monkeypatch):
    def get_free_memory(device=None, torch_free_too=False):
        return (free, free) if torch_free_too else free

    monkeypatch.setattr(comfy.model_management, "get_free_memory", get_free_memory)
    graph = kontext(batch=2)
    masks = torch.cat([left(64, 48), 1 - left(64, 48)])
    latent = graph.sample(steered(graph.model, 0.3, generated_region=masks))["samples"]
    differ(latent, graph.sample()["samples"])
    for item, inside in enumerate(F.adaptive_avg_pool2d(masks[:, None], (4, 3)).flatten(1) > 0.5):
        by_hand = [ByHand(0.3, range(19, 33), rows=[7 + row for row in inside.nonzero().flatten().tolist()])]
        run = Run(lambda queries, keys, steers=by_hand: steers if keys == 33 else ())
        close(latent[item], graph.sample(run.on(graph.model))["samples"][item])


@pytest.mark.parametrize("settings", [{}, {"heads": "1"}, {"heads": "0", "through": "directly"}])
@pytest.mark.parametrize("name", ["lumina2_canvas", "z_image_canvas"])
def test_a_canvas_where_keys_have_fewer_heads(name, settings):
    graph = tiny_graphs.GRAPHS[name](batch=2)
    grid = (4, 3)
    multiple = getattr(graph.model.model.diffusion_model, "pad_tokens_multiple", None) or 1
    first, padded = (-(-tokens // multiple) * multiple for tokens in (graph.text_tokens, 12))
    of_reference = F.adaptive_avg_pool2d(left(64, 48), grid).flatten() > 0.5
    noise_mask = graph.latent["noise_mask"].float()
    painted = F.adaptive_avg_pool2d(noise_mask.reshape(-1, 1, *noise_mask.shape[-2:])[:1], grid).flatten() > 0.5
    columns = [first + n for n in range(12) if of_reference[n] and not painted[n]]
    rows = [first + n for n in range(12) if painted[n]] if "through" in settings else None
    heads = [int(settings["heads"])] if "heads" in settings else None
    by_hand = [ByHand(0.3, columns, rows=rows, heads=heads)]
    run = Run(lambda queries, keys: by_hand if queries == keys == first + padded else ())
    model = steered(graph.model, 0.3, mechanism="canvas regions", reference_region=left(64, 48), **settings)
    latent, expected = graph.sample(model)["samples"], graph.sample(run.on(graph.model))["samples"]
    assert run.made
    differ(latent, graph.sample()["samples"])
    close(latent, expected)


def test_references_in_another_order_in_the_negative_are_the_same_ones():
    graph = kontext()
    graph.negative[0][1]["reference_latents"] = list(reversed(graph.positive[0][1]["reference_latents"]))
    by_hand = [ByHand(0.0, range(19, 27), branches=[0]), ByHand(0.0, range(25, 33), branches=[1])]
    latent = graph.sample(steered(graph.model, 0.0, reference=0))["samples"]
    close(latent, graph.sample(Run(lambda queries, keys: by_hand if keys == 33 else ()).on(graph.model))["samples"])


@pytest.mark.parametrize(("branch", "cfg"), [("both", 1.0), ("positive", 3.0)])
def test_a_conditioning_that_begins_late_is_steered_when_it_does(branch, cfg):
    graph = kontext(cfg=cfg)
    graph.positive[0][1] |= {"start_percent": 0.5, "end_percent": 1.0}
    differ(graph.sample(steered(graph.model, 0.0, branch=branch), steps=4)["samples"], graph.sample(steps=4)["samples"])


def test_a_conditioning_with_frames_that_takes_turns_with_one_without():
    graph, text = tiny_graphs.wan_phantom(cfg=1.0), tiny_graphs.wan_text(cfg=1.0)
    before, behind = text.positive[0], graph.positive[0]
    before[1] |= {"start_percent": 0.0, "end_percent": 0.4}
    behind[1] |= {"start_percent": 0.4, "end_percent": 1.0}
    graph.positive = [before, behind]
    differ(graph.sample(steered(graph.model, 0.0), steps=4)["samples"], graph.sample(steps=4)["samples"])

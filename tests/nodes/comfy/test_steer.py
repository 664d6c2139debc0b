"""Steering is exact: every tiny model steered by the node gives the latent of a run steered by hand in 64 bits."""

from collections.abc import Callable

import pytest
import tiny_graphs
import torch
from by_hand import ByHand
from ip_adapter_standin import SETTINGS, StandIn, weights
from mechanisms import steered
from steered_oracle import Run
from token_places import TOKENS, Tokens

from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.comfy.tags import KEY
from i2am_pack.nodes.comfy.tags import tag as make_tag

Case = tuple[list[dict], list[ByHand]]


def all_columns(t: Tokens) -> list[int]:
    return [column for columns in t.references for column in columns]


def rows_of(t: Tokens) -> list[int]:
    return list(t.picture if t.drawn is None else t.drawn)


def pattern(height: int, width: int) -> torch.Tensor:
    """A region ``[1, h, w]`` of no simple shape, that is neither empty nor all."""
    cells = torch.arange(height * width)
    return ((cells * 5) % 7 < 3).float().view(1, height, width)


def in_the_picture(t: Tokens) -> tuple[torch.Tensor, list[int]]:
    region = pattern(t.grid.height, t.grid.width)
    inside = region.flatten().repeat(t.grid.frames) > 0
    return region, [row for row, chosen in zip(t.picture, inside, strict=True) if chosen and row in rows_of(t)]


def in_the_reference(t: Tokens) -> tuple[torch.Tensor, list[int]]:
    grid = t.grids[0]
    assert grid is not None
    region = pattern(grid.height, grid.width)
    places = (t.places or t.references)[0]
    return region, [column for column, chosen in zip(places, region.flatten() > 0, strict=True) if chosen]


def region_of_the_picture(t: Tokens) -> Case:
    region, rows = in_the_picture(t)
    return [{"strength": 0.3, "generated_region": region}], [ByHand(0.3, all_columns(t), rows=rows)]


def way(t: Tokens) -> str:
    """In a softmax of the references alone, a part of one is weighed by its values."""
    return "values" if len(all_columns(t)) == t.keys else "attention"


def region_of_the_reference(t: Tokens) -> Case:
    region, columns = in_the_reference(t)
    return [{"strength": 0.0, "reference": 0, "reference_region": region}], [ByHand(0.0, columns, way(t))]


def both_regions(t: Tokens) -> Case:
    (on_picture, rows), (on_reference, columns) = in_the_picture(t), in_the_reference(t)
    node = {"strength": 4.0, "reference": 0, "reference_region": on_reference, "generated_region": on_picture}
    return [node | {"heads": "1"}], [ByHand(4.0, columns, way(t), rows, [1])]


def output_in_both_regions(t: Tokens) -> Case:
    nodes, (hand,) = both_regions(t)
    return (
        [nodes[0] | {"by": "output", "strength": -1.0}],
        [ByHand(-1.0, hand.columns, "output", hand.rows, hand.heads)],
    )


def two(t: Tokens) -> Case:
    region, rows = in_the_picture(t)
    return (
        [{"strength": 0.3}, {"strength": 4.0, "reference": 0, "generated_region": region}],
        [ByHand(0.3, all_columns(t)), ByHand(4.0, t.references[0], rows=rows)],
    )


CASES: dict[str, Callable[[Tokens], Case]] = {
    "muted": lambda t: ([{"strength": 0.0}], [ByHand(0.0, all_columns(t))]),
    "0.3 directly": lambda t: (
        [{"strength": 0.3, "through": "directly"}],
        [ByHand(0.3, all_columns(t), rows=rows_of(t))],
    ),
    "4 in a head": lambda t: ([{"strength": 4.0, "heads": "0"}], [ByHand(4.0, all_columns(t), heads=[0])]),
    "the last reference": lambda t: (
        [{"strength": 0.0, "reference": len(t.references) - 1}],
        [ByHand(0.0, t.references[-1])],
    ),
    "a region of the picture": region_of_the_picture,
    "a region of the reference": region_of_the_reference,
    "both regions in a head": both_regions,
    "a layer and a step": lambda t: (
        [{"strength": 4.0, "layers": "1", "steps": "1"}],
        [ByHand(4.0, all_columns(t), layers=[1], steps=[1])],
    ),
    "output": lambda t: ([{"strength": -1.0, "by": "output"}], [ByHand(-1.0, all_columns(t), "output")]),
    "output in both regions": output_in_both_regions,
    "output muted directly": lambda t: (
        [{"strength": 0.0, "by": "output", "through": "directly"}],
        [ByHand(0.0, all_columns(t), "output", rows_of(t))],
    ),
    "two Steers": two,
    "two by output": lambda t: (
        [{"strength": 3.0, "by": "output"}, {"strength": 0.5, "by": "output", "reference": 0}],
        [ByHand(3.0, all_columns(t), "output"), ByHand(0.5, t.references[0], "output")],
    ),
    "the positive branch": lambda t: (
        [{"strength": 0.0, "branch": "positive"}],
        [ByHand(0.0, all_columns(t), branches=[0])],
    ),
    "the negative branch": lambda t: (
        [{"strength": 0.3, "branch": "negative"}],
        [ByHand(0.3, all_columns(t), branches=[1])],
    ),
}
SOME = 4  # cases of each graph but the first, which has all


def pairs() -> list[tuple[str, str]]:
    """Every case with the first graph; with each other one some, so that all come by."""
    first, *others = TOKENS
    chosen = [(first, case) for case in CASES]
    names = [name for name in CASES if name != "muted" and "branch" not in name]
    for number, graph in enumerate(others):
        own = [names[(number * SOME + n) % len(names)] for n in range(SOME)]
        chosen += [(graph, case) for case in dict.fromkeys(["muted", *own])]
    return chosen


@pytest.fixture(scope="module")
def tokens_and_plain(request: pytest.FixtureRequest) -> tuple[Tokens, torch.Tensor]:
    """A graph for all of its cases, and its latent without steering."""
    tokens = TOKENS[request.param]()
    return tokens, tokens.graph.sample()["samples"]


@pytest.mark.parametrize(("tokens_and_plain", "case"), pairs(), indirect=["tokens_and_plain"])
def test_the_picture_is_that_of_a_run_steered_by_hand(tokens_and_plain, case):
    t, plain = tokens_and_plain
    nodes, hands = CASES[case](t)
    model = t.graph.model
    for node in nodes:
        model = steered(model, **node)
    latent = t.graph.sample(model)["samples"]
    run = Run(lambda queries, keys: hands if keys == t.keys and queries in (t.keys, len(t.picture)) else ())
    expected = t.graph.sample(run.on(t.graph.model))["samples"]
    assert run.made and not torch.equal(latent, plain)
    assert (latent - plain).abs().max() > 20 * (latent - expected).abs().max()
    torch.testing.assert_close(latent, expected, rtol=2e-4, atol=2e-4)


# Mechanisms whose references have other columns in each layer, or that have a softmax of their own


def left(height: int, width: int) -> torch.Tensor:
    mask = torch.zeros(1, height, width)
    mask[:, :, : width // 2] = 1
    return mask


@pytest.mark.parametrize("through", ["everything", "directly"])
@pytest.mark.parametrize("strength", [0.0, 4.0])
@pytest.mark.parametrize("name", ["flux_fill_canvas", "sd15_canvas"])
def test_a_canvas(name, strength, through):
    """Both regions are painted on the canvas, as for I2AM Capture; without one of them, the inpainting mask."""
    graph = tiny_graphs.GRAPHS[name](size=(8, 8), batch=2)
    first, sides = (7, (4,)) if name.startswith("flux") else (0, (8, 4))

    def by_hand(queries, keys):
        side = next((side for side in sides if queries == keys == first + side * side), None)
        if side is None:
            return ()
        cells = [(first + y * side + x, x < side // 2) for y in range(side) for x in range(side)]
        columns = [cell for cell, of_reference in cells if of_reference]
        rows = [cell for cell, of_reference in cells if not of_reference]
        return [ByHand(strength, columns, rows=None if through == "everything" else rows)]

    model = steered(graph.model, strength, through=through, mechanism="canvas regions", reference_region=left(64, 64))
    check(graph, model, by_hand)


def check(graph, model, by_hand, **sampling):
    plain, latent = graph.sample(**sampling)["samples"], graph.sample(model, **sampling)["samples"]
    run = Run(by_hand)
    expected = graph.sample(run.on(graph.model), **sampling)["samples"]
    assert run.made
    assert (latent - plain).abs().max() > 20 * (latent - expected).abs().max()
    scale = float(expected.abs().max())
    torch.testing.assert_close(latent, expected, rtol=2e-4, atol=2e-5 * max(10, scale))


@pytest.mark.parametrize("strength", [0.0, 0.3, 4.0])
def test_reference_only(strength):
    graph = tiny_graphs.sd15_reference_only()

    def by_hand(queries, keys):
        return [ByHand(strength, range(queries, keys))] if keys == 2 * queries else ()

    check(graph, steered(graph.model, strength), by_hand)


def tagged_graph(others):
    """A U-Net whose context is two references of 4 and 9 tokens on grids, after so many other tokens."""
    graph = tiny_graphs.sd15_text(lengths=(others + 13, others + 13))
    for conditioning in (graph.positive, graph.negative):
        tokens = conditioning[0][0]
        parts = ((others, (2, 2)), (others + 4, (3, 3)))
        conditioning[0][1][KEY] = [
            make_tag(f"reference {n}", start, tokens[:, start : start + h * w], (h, w))
            for n, (start, (h, w)) in enumerate(parts)
        ]
    return graph


@pytest.mark.parametrize("others", [0, 4])
@pytest.mark.parametrize("settings", [{}, {"reference": 1}, {"heads": "0"}, {"through": "directly"}])
@pytest.mark.parametrize("strength", [0.0, 2.0])
def test_cross_attention_whose_tokens_are_all_chosen_counts_so_many_times(others, settings, strength):
    """In a softmax of nothing but the reference, weights would cancel."""
    graph = tagged_graph(others)
    columns = range(others + 4, others + 13) if "reference" in settings else range(others, others + 13)
    heads = [0] if "heads" in settings else None

    def by_hand(queries, keys):
        return [ByHand(strength, columns, heads=heads)] if keys == others + 13 else ()

    check(graph, steered(graph.model, strength, **settings), by_hand)


def test_a_region_that_is_all_of_an_image_is_the_image_with_its_class_token():
    graph = tiny_graphs.wan_i2v(cfg=1.0)
    latent = graph.sample(steered(graph.model, 0.0, reference_region=torch.ones(1, 16, 16)))["samples"]
    assert torch.equal(latent, graph.sample(steered(graph.model, 0.0))["samples"])


def test_a_shorter_context_that_comfyui_repeats_is_weighed_in_all_its_copies():
    graph = tagged_graph(4)
    graph.negative[0][0] = torch.cat([graph.negative[0][0]] * 2, 1)
    model = steered(graph.model, 0.3, branch="positive")
    columns = [*range(4, 17), *range(21, 34)]
    check(graph, model, lambda queries, keys: [ByHand(0.3, columns, branches=[0])] if keys == 34 else ())


def adapted(graph, weight=0.6, images=1, tokens=16, **settings):
    seen = [tiny_graphs.noise(base, images, tokens, 8) for base in (40, 60)]
    graph.model = StandIn.apply(
        graph.model, weights(False, 0), *seen, False, **{**SETTINGS, "weight": weight} | settings
    )
    return graph


@pytest.mark.parametrize("strength", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("by", ["attention", "output"])
def test_an_ip_adapter_counts_as_with_another_weight(strength, by):
    plain = adapted(tiny_graphs.sd15_text(batch=2, cfg=1.0))
    latent = plain.sample(steered(plain.model, strength, by))["samples"]
    other_weight = adapted(tiny_graphs.sd15_text(batch=2, cfg=1.0), 0.6 * strength).sample()["samples"]
    torch.testing.assert_close(latent, other_weight, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"reference": 0}])
def test_the_negative_image_of_an_ip_adapter_counts_as_much_as_the_image(settings):
    """As with another weight in the pack: else guidance would push away from the negative image alone."""
    graph = adapted(tiny_graphs.sd15_text(batch=2))
    both, positive = (
        graph.sample(steered(graph.model, 0.3, branch=x, **settings))["samples"] for x in ("both", "positive")
    )
    other_weight = adapted(tiny_graphs.sd15_text(batch=2), 0.6 * 0.3).sample()["samples"]
    torch.testing.assert_close(both, other_weight, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(positive, both, rtol=1e-2, atol=1e-2)


def test_one_of_two_images_of_an_ip_adapter_leaves_its_attention_to_the_other():
    both, one = adapted(tiny_graphs.sd15_text(cfg=1.0), images=2), adapted(tiny_graphs.sd15_text(cfg=1.0))
    latent = both.sample(steered(both.model, 0.0, reference=1))["samples"]
    torch.testing.assert_close(latent, one.sample()["samples"], rtol=1e-4, atol=1e-4)
    assert (latent - both.sample()["samples"]).abs().max() > 0.01


def test_the_class_token_of_an_image_comes_with_it_but_not_with_a_region():
    """257 tokens of an adapter are a class token and 16 x 16: references 1 and 0 of summaries."""
    graph, plus = adapted(tiny_graphs.sd15_text(cfg=1.0), tokens=257), {"reference": 0}
    whole, of_number = (graph.sample(steered(graph.model, 0.0, **x))["samples"] for x in ({}, plus))
    assert torch.equal(whole, of_number)
    region = torch.ones(1, 16, 16)
    region[:, 0, 0] = 0
    in_region = graph.sample(steered(graph.model, 0.0, reference_region=region, **plus))["samples"]
    assert in_region.isfinite().all() and not torch.equal(in_region, whole)
    alone = graph.sample(steered(graph.model, 0.0, reference=1))["samples"]
    assert not torch.equal(alone, whole)


def test_layers_are_those_of_the_summary():
    graph = adapted(tiny_graphs.sd15_text(cfg=1.0))
    shares = []
    for strength in (1.0, 0.25):
        model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
        latent = graph.sample(steered(model, strength, layers="1"), steps=1)
        attribution = I2AMCollect.execute(handle, latent).args[0]
        shares.append([attribution.layer_maps(0, n).maps["r2g_share"].mean() for n in range(len(attribution.layers))])
    ratios = torch.tensor(shares[1]) / torch.tensor(shares[0])
    assert len(ratios) > 1
    expected = torch.ones(len(ratios))
    expected[1] = 0.25
    torch.testing.assert_close(ratios, expected, rtol=1e-4, atol=0)

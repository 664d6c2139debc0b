"""Reference latents in joint attention: the maps are those of an independent oracle, and the picture stays."""

import pytest
import tiny_graphs
from mechanisms import assert_maps_equal, capture, measure

from i2am_pack.i2am_core import TokenGrid


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"size": (7, 5), "lengths": (13, 13)},
        {"batch": 2, "cfg": 3.0},
        {"cfg": 3.0, "lengths": (7, 12)},
        {"cfg": 3.0, "negative": False},
        {"method": "uxo/uno"},
    ],
)
def test_flux_kontext_equals_the_oracle(shape):
    graph = tiny_graphs.flux_kontext(**shape)
    attribution = capture(graph)
    height, width = graph.latent["samples"].shape[-2:]
    text, grid = graph.text_tokens, TokenGrid(-(-height // 2), -(-width // 2))
    assert [layer.name for layer in attribution.layers] == ["double 0", "double 1", "single 0", "single 1"]
    assert {layer.grid for layer in attribution.layers} == {grid}
    assert [r.grid for r in attribution.references] == [TokenGrid(2, 4), TokenGrid(3, 2)]
    first = text + grid.cells
    steps = measure(graph, range(text, first))
    assert_maps_equal(attribution, steps, 0, range(first, first + 8))
    assert_maps_equal(attribution, steps, 1, range(first + 8, first + 14))


def columns_of(*sizes, patch=2):
    return [-(-height // patch) * -(-width // patch) for height, width in sizes]


ORDER = {
    # family: graph, tokens of text, order, patch
    "flux2": (tiny_graphs.flux2_edit, 512, "TIR", 1),
    "qwen": (tiny_graphs.qwen_edit, None, "TIR", 2),
    "omnigen2": (tiny_graphs.omnigen2_edit, None, "TRI", 2),
}
SHAPES = [
    {},
    {"size": (7, 5), "lengths": (13, 13), "sizes": ((3, 5), (4, 2), (5, 7))},
    {"batch": 2, "cfg": 3.0},
    {"cfg": 3.0, "lengths": (7, 12)},
    {"cfg": 3.0, "negative": False},
]


@pytest.mark.parametrize("family", ORDER)
@pytest.mark.parametrize("shape", SHAPES)
def test_other_families_equal_the_oracle(family, shape):
    make, padded, order, patch = ORDER[family]
    graph = make(**shape)
    attribution = capture(graph)
    text = padded or graph.text_tokens
    (cells,) = columns_of(graph.latent["samples"].shape[-2:], patch=patch)
    counts = columns_of(*(r.shape[-2:] for r in graph.references), patch=patch)
    assert [r.tokens for r in attribution.references] == counts
    start = text + (sum(counts) if order == "TRI" else 0)
    steps = measure(graph, range(start, start + cells))
    first = text + (0 if order == "TRI" else cells)
    for number, count in enumerate(counts):
        assert_maps_equal(attribution, steps, number, range(first, first + count))
        first += count


@pytest.mark.parametrize(
    "shape", [{}, {"size": (7, 4), "lengths": (13, 13)}, {"batch": 2, "cfg": 3.0}, {"cfg": 3.0, "lengths": (7, 12)}]
)
def test_hidream_e1_has_its_reference_to_the_right_in_every_row(shape):
    graph = tiny_graphs.hidream_e1(**shape)
    attribution = capture(graph)
    height, width = graph.latent["samples"].shape[-2:]
    rows, columns = -(-height // 2), width // 2
    assert [layer.name for layer in attribution.layers] == [f"block {n}" for n in range(4)]
    assert {layer.grid for layer in attribution.layers} == {TokenGrid(rows, columns)}
    assert [r.grid for r in attribution.references] == [TokenGrid(rows, columns)]
    picture = [2 * columns * y + x for y in range(rows) for x in range(columns)]
    text = 3 * graph.text_tokens  # T5, and two layers of Llama
    steps = measure(graph, picture, lambda call: call.k.shape[2] == 2 * len(picture) + text)
    assert_maps_equal(attribution, steps, 0, [cell + columns for cell in picture])


@pytest.mark.parametrize("size", [(8, 5), (7, 7)])
def test_hidream_e1_of_odd_width_is_refused_as_one_token_holds_both(size):
    graph = tiny_graphs.hidream_e1(size=size)
    with pytest.raises(ValueError, match="hold both picture and reference at the border"):
        capture(graph)


def test_hidream_e1_in_an_area_has_only_a_part_of_its_reference():
    graph = tiny_graphs.hidream_e1()
    graph.positive[0][1]["area"] = (4, 6, 2, 0)
    with pytest.raises(ValueError, match="the conditioning's area cuts the reference"):
        capture(graph)


def test_first_references_of_combined_conditionings_are_not_the_same():
    """Two conditionings, each with a reference latent of its own: recognised by what they hold."""
    graph, other = (tiny_graphs.flux_kontext(reference=seed, sizes=((4, 8),)) for seed in (2, 9))
    graph.positive = graph.positive + other.positive
    attribution = capture(graph)
    assert [r.name for r in attribution.references] == ["reference latent 1"] * 2
    same = tiny_graphs.flux_kontext(sizes=((4, 8),))
    same.positive = same.positive + tiny_graphs.flux_kontext(sizes=((4, 8),), text=5).positive
    assert len(capture(same).references) == 1

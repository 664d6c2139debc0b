import pytest
from recorded import FINE, record

from i2am_core import Layer, MapKind, Selection
from i2am_core.errors import BadSelection, UnresolvedAxis
from i2am_core.selection import parse_selection

NAMES = ["input 1.0", "output 2.0", "output 3.0"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", [0, 1, 2, 3, 4]),
        ("", [0, 1, 2, 3, 4]),
        (" ALL ", [0, 1, 2, 3, 4]),
        ("3", [3]),
        ("0-2,4", [0, 1, 2, 4]),
        ("4, 1 - 2, 1", [1, 2, 4]),
        (f"{'0' * 5000}3", [3]),
    ],
)
def test_numbers(text, expected):
    assert parse_selection(text, 5, "steps") == expected


def test_names():
    assert parse_selection("output*", 3, "layers", NAMES) == [1, 2]
    assert parse_selection("Input 1.0, 2", 3, "layers", NAMES) == [0, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", "there are 5 steps, numbered 0 to 4: '5' is out of range"),
        ("0-9", "out of range"),
        ("9" * 5000, "out of range"),
        (f"0-{'9' * 5000}", "out of range"),
        ("3-1", "runs backwards: write '1-3'"),
        ("abc", "cannot read 'abc'"),
        ("-1", "cannot read '-1'"),
        ("1.5", "cannot read '1.5'"),
        (",", "selects no steps"),
    ],
)
def test_what_cannot_be_selected_is_said(text, message):
    with pytest.raises(ValueError, match=message):
        parse_selection(text, 5, "steps")


def test_a_selection_is_parsed_before_there_is_a_run():
    selection = Selection(steps="0-2,4", layers="output*", heads="1")
    assert selection.step_numbers(5) == [0, 1, 2, 4]
    assert selection.layer_numbers(NAMES) == [1, 2]
    assert selection.head_numbers("output 2.0", 2) == [1]
    with pytest.raises(BadSelection) as caught:
        selection.step_numbers(4)
    assert (caught.value.axis, caught.value.text, caught.value.count) == ("steps", "4", 4)


def test_a_selection_of_an_attribution():
    layers = [Layer("a", FINE, 2), Layer("b", FINE, 3)]
    attribution, _ = record(layers)
    selected = Selection(steps="1,3", layers="b", heads="0-1", item=1).of(attribution)
    assert (selected.bins, selected.layers, selected.heads) == ((1, 3), (1,), {1: [0, 1]})
    assert (selected.reference, selected.item, selected.scope) == (0, 1, "inpainting mask")
    assert selected.kind(MapKind("g2r")).scoped and not selected.kind(MapKind("r2g")).scoped
    with pytest.raises(BadSelection, match="2 heads in layer 'a'"):
        Selection(heads="2").of(attribution)
    assert Selection(heads="2", layers="b").of(attribution).heads == {1: [2]}


def test_what_was_merged_cannot_be_selected_apart():
    attribution, _ = record([Layer("a", FINE, 3)], budget=6000)
    assert 1 < len(attribution.bins) < attribution.steps
    with pytest.raises(UnresolvedAxis) as caught:
        Selection(steps="0").of(attribution)
    assert caught.value.axis == "steps" and caught.value.text == "0"
    whole = caught.value.groups[0]
    assert Selection(steps=whole).of(attribution).bins == (0,)
    merged, _ = record([Layer("a", FINE, 3)], budget=1000)
    assert Selection().of(merged).heads == {0: [0]}
    with pytest.raises(UnresolvedAxis, match="heads '1' are not resolved"):
        Selection(heads="1").of(merged)

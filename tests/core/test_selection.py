import pytest

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

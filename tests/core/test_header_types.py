"""The types of the viewer file's header are written once: the page's are made from the core's."""

import re

import pytest
from header_types import TARGET, declarations, typescript

from i2am_core.showing.header import TYPES, FileHeader, Header


def test_the_page_has_the_types_of_the_core():
    """``python scripts/header_types.py`` writes them anew."""
    assert TARGET.read_text() == declarations(TYPES)


def test_every_field_of_both_headers_is_declared():
    text = TARGET.read_text()
    declared = text[text.index("export interface FileHeader {") :]
    assert Header.__annotations__.keys() < FileHeader.__annotations__.keys()
    assert [name for name in FileHeader.__annotations__ if not re.search(rf"  {name}\??: ", declared)] == []


def test_what_may_be_missing_is_optional():
    assert "  effects?: HeaderEffects;" in TARGET.read_text() and "  notes: Array<string>;" in TARGET.read_text()


def test_types_become_those_that_json_holds():
    assert typescript(dict[str, list[tuple[int, bool]] | None]) == "Record<string, Array<[number, boolean]> | null>"
    assert typescript(tuple[float, ...]) == "Array<number>"
    with pytest.raises(ValueError, match="JSON has no type for set"):
        typescript(set[int])

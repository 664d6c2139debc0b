"""Findings in Chinese: every sentence, with the same values in it; and the page words them as Python does."""

import re

import pytest
import worded_fixture
from worded_fixture import TEMPLATES, fields

from i2am_pack.i2am_core import owner_names
from i2am_pack.i2am_core.findings.examine import OF_THUMB
from i2am_pack.i2am_core.findings.facts import MASKED, PICTURE, WITHOUT
from i2am_pack.nodes.suggestions import TRIES
from i2am_pack.nodes.summary import GUESS, TRY

WORDS = worded_fixture.chinese()
HAN = re.compile(r"[\u4e00-\u9fff]")


def test_each_group_of_words_is_whole():
    assert set(WORDS) == {"sentences", "tries", "words", "lines"}
    assert set(WORDS["sentences"]) == set(TEMPLATES)
    assert set(WORDS["tries"]) == {one.sentence for tries in TRIES.values() for one in tries.values()}
    assert set(WORDS["words"]) == {PICTURE, MASKED, *WITHOUT.values(), *owner_names(()).values()}
    assert set(WORDS["lines"]) == {OF_THUMB, TRY, GUESS}


@pytest.mark.parametrize("key", TEMPLATES)
def test_a_sentence_has_the_values_of_the_english_one(key):
    assert sorted(fields(WORDS["sentences"][key])) == sorted(fields(TEMPLATES[key]))


def test_a_line_has_the_places_of_the_english_one():
    assert all(text.count("{}") == english.count("{}") for english, text in WORDS["lines"].items())


def test_all_of_it_is_chinese():
    assert all(HAN.search(text) and text != english for group in WORDS.values() for english, text in group.items())


@pytest.mark.parametrize("english", WORDS["tries"])
def test_settings_keep_their_names(english):
    """Nodes and inputs are called in Chinese what they are called on the node."""
    for tries in TRIES.values():
        for one in tries.values():
            names = {name for _, name in one.settings if re.search(rf"\b{name}\b", english)}
            if one.sentence == english:
                assert all(name in WORDS["tries"][english] for name in names)


def test_what_the_page_is_checked_against_is_what_python_says():
    """``PYTHONPATH=. python tests/worded_fixture.py`` writes it anew."""
    assert worded_fixture.FIXTURE.read_text() == worded_fixture.build() + "\n"

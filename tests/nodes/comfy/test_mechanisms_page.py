"""The table of docs/mechanisms.md is what the mechanisms say of themselves."""

import mechanisms_page

from i2am_pack.nodes.comfy.mechanisms import MECHANISMS


def test_the_table_is_written_from_the_mechanisms():
    page = mechanisms_page.PAGE.read_text()
    assert page == mechanisms_page.with_table(page, mechanisms_page.table(MECHANISMS.values())), (
        "run python scripts/mechanisms_page.py"
    )


def test_every_mechanism_says_what_it_is():
    for name, mechanism in MECHANISMS.items():
        assert name == mechanism.name and mechanism.documented
        for about in mechanism.documented:
            assert about.users and about.captured and about.spatial and about.certainty


def test_priorities_are_apart():
    priorities = [mechanism.priority for mechanism in MECHANISMS.values()]
    assert len(set(priorities)) == len(priorities)

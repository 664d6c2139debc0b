"""docs/summaries.md is what I2AM Collect says today, of the pinned ComfyUI."""

import re

import pytest
import summaries
import summaries_page
import this_core


@pytest.mark.skipif(not this_core.PINNED, reason="the page is of the pinned ComfyUI")
def test_the_page_is_what_collect_says():
    written = summaries_page.PAGE.read_text()
    now = summaries_page.page((("Templates", summaries.TEMPLATES), ("Cases", summaries.CASES)))
    assert _without_digits(written) == _without_digits(now), "run python scripts/summaries_page.py"


def _without_digits(page: str) -> str:
    """The last digits of numbers, and PyTorch's kernels, are those of the machine."""
    return re.sub(r"row sums of .*|\d+\.\d+", "#", page)

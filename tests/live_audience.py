"""Somebody who sees what a Capture has so far, where no page has queued the run."""

import pytest

from i2am_pack.nodes.comfy import captured, live


def with_audience(patch: pytest.MonkeyPatch, send) -> None:
    """Let ``send`` have each message of any Capture."""
    audience = live.Audience(send, "a prompt", "1", "2", ["3"])
    patch.setattr(captured, "audience_of", lambda node: audience)

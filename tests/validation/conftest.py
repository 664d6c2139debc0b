"""The study in its short form: two scenes in two steps, once a session."""

import in_process_host
import pytest

in_process_host.load()

from i2am_pack.validation.lab import Lab  # noqa: E402  (it needs ComfyUI)


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    return Lab(scenes=2, steps=2, cache=tmp_path_factory.mktemp("validation"))

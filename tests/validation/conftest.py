"""The study's short form: two scenes in two steps, by both demo models on the real ComfyUI."""

import in_process_host
import pytest

in_process_host.load()

SCENES, STEPS = 2, 2


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    from i2am_pack.validation.lab import Lab

    return Lab(SCENES, STEPS, tmp_path_factory.mktemp("validation"))


@pytest.fixture
def resumed(lab, monkeypatch):
    """The same study begun once more, in which nothing can be sampled: what it needs was computed before."""
    from i2am_pack.demo import effect
    from i2am_pack.validation.lab import Lab

    def sampled(*_, **__):
        raise AssertionError("something was sampled again")

    monkeypatch.setattr(effect.Study, "_latents", sampled)
    return Lab(lab.scenes, lab.steps, lab.cache)

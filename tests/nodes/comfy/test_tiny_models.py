"""The tiny models are models: what they make is finite, repeatable, and depends on text and reference."""

import inspect

import comfy.utils
import pytest
import torch
from tiny_graphs import GRAPHS

WITH_REFERENCE = [name for name, make in GRAPHS.items() if "reference" in inspect.signature(make).parameters]


def sample(name, **kwargs):
    """What is generated: not what a mask keeps."""
    graph = GRAPHS[name](**kwargs)
    samples = graph.sample()["samples"]
    if "noise_mask" in graph.latent:
        samples = samples * (comfy.utils.reshape_mask(graph.latent["noise_mask"], samples.shape) > 0.5)
    return samples


@pytest.mark.parametrize("name", GRAPHS)
def test_it_samples(name):
    first = sample(name)
    assert torch.isfinite(first).all()
    assert first.std() > 0.1
    assert torch.equal(first, sample(name))


@pytest.mark.parametrize("name", GRAPHS)
def test_the_text_matters(name):
    assert (sample(name) - sample(name, text=31)).abs().max() > 1e-3


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_the_reference_matters(name):
    assert (sample(name) - sample(name, reference=32)).abs().max() > 1e-3

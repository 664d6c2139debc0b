"""Models of 2026 that read no references in attention: what becomes of one that they are given is said nevertheless."""

import pytest
import tiny_other_models as tiny
import torch
from given_graphs import with_reference
from mechanisms import steered
from this_core import of_model

from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect

SAME = "what the model gets is the same with it and without it"
IGNORED = {  # with a ReferenceLatent of 2 x 4 cells, or of 32 x 32 pixels
    "ChromaRadiance": (
        lambda: with_reference(tiny.of_pixels(tiny.chroma_radiance()), (32, 32)),
        "has no place for them",
    ),
    "ErnieImage": (lambda: with_reference(tiny.of_latent(tiny.ernie(), 128), (2, 4)), SAME),
    "Lens": (lambda: with_reference(tiny.of_latent(tiny.lens(), 128), (2, 4)), SAME),
    "PixelDiTT2I": (lambda: with_reference(tiny.of_pixels(tiny.pixeldit()), (32, 32)), SAME),
}


def refused(graph):
    """What Collect says of the run, which leaves the picture as it is."""
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    latent = graph.sample(model)
    assert torch.equal(latent["samples"], graph.sample()["samples"])
    with pytest.raises(ValueError) as error:
        I2AMCollect.execute(handle, latent)
    return str(error.value)


@pytest.mark.parametrize("name", [pytest.param(name, marks=of_model(name)) for name in IGNORED])
def test_a_reference_latent_is_ignored(name):
    make, reason = IGNORED[name]
    graph = make()
    bare = [[tokens, {k: x for k, x in about.items() if k != "reference_latents"}] for tokens, about in graph.positive]
    said = refused(graph)
    assert "this model ignores it" in said and reason in said
    assert "Nothing of it reaches the picture" in said and "could not read" not in said
    latent, graph.positive = graph.sample()["samples"], bare
    assert torch.equal(latent, graph.sample()["samples"])  # it is true


@of_model("PiD")
def test_the_latent_of_pid_is_said_to_come_beside_attention():
    graph = tiny.pid_of_latent()
    said = refused(graph)
    assert "the latent that is decoded or enlarged" in said and "added to the picture's own tokens" in said
    assert "Measure it with I2AM Effect" in said
    with pytest.raises(ValueError, match="no reference"):
        graph.sample(steered(graph.model, 0.0))

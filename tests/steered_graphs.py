"""Small graphs to steer, and how near latents must be: shared by the tests of I2AM Steer."""

import comfy_extras.nodes_slg as nodes_slg
import tiny_graphs
import torch
from comfy import context_windows
from ip_adapter_standin import SETTINGS, StandIn, weights

from i2am_pack.nodes.comfy.captured import capture_with
from i2am_pack.nodes.comfy.handle import Capture, Settings
from i2am_pack.nodes.tag_reference import I2AMTagReference


def close(one, other, rtol=1e-4):
    torch.testing.assert_close(one, other, rtol=rtol, atol=1e-5 * max(10, float(other.abs().max())))


def differ(one, other):
    assert (one - other).abs().max() > 0.01 * float(other.abs().max())


def kontext(**shape):
    """The tiny Kontext with guidance: 7 tokens of text, 12 of the picture (4 x 3), references of 8 (2 x 4) and 6."""
    return tiny_graphs.flux_kontext(**{"cfg": 3.0} | shape)


def tagged(graph):
    """With the tokens behind the text tagged as a reference."""
    tokens, about = graph.positive[0]
    before = [[tokens[:, : graph.text_tokens], about]]
    graph.positive = I2AMTagReference.execute(before, graph.positive).args[0]
    return graph


def region(height, width, *cells):
    """A mask ``[1, height, width]`` of some cells ``(y, x)``."""
    mask = torch.zeros(1, height, width)
    for y, x in cells:
        mask[0, y, x] = 1
    return mask


def ip_adapter(with_it=True, **shape):
    """A U-Net with an IP-Adapter of one image of 16 tokens, or the same without it."""
    graph = tiny_graphs.sd15_text(**{"cfg": 1.0} | shape)
    if with_it:
        seen = [tiny_graphs.noise(base, 1, 16, 8) for base in (40, 60)]
        graph.model = StandIn.apply(graph.model, weights(False, 0), *seen, False, **SETTINGS)
    return graph


def tagged_unet():
    """A U-Net with four tagged tokens behind its text."""
    graph = tiny_graphs.sd15_text(lengths=(81, 77), cfg=1.0)
    graph.text_tokens = 77
    return tagged(graph)


def adapter_beside_tags(**settings):
    """The same beside an IP-Adapter."""
    graph = tagged_unet()
    seen = [tiny_graphs.noise(base, 1, 16, 8) for base in (40, 60)]
    graph.model = StandIn.apply(graph.model, weights(False, 0), *seen, False, **SETTINGS | settings)
    return graph


def in_windows(graph):
    """A video of 5 frames in its latent, denoised in context windows of 3."""
    graph.latent = {"samples": torch.zeros(1, 16, 5, *graph.latent["samples"].shape[-2:])}
    handler = context_windows.IndexListContextHandler(
        context_windows.get_matching_context_schedule("standard_static"),
        context_windows.get_matching_fuse_method("pyramid"),
        context_length=3,
        context_overlap=1,
        dim=2,
    )
    graph.model = graph.model.clone()
    graph.model.model_options["context_handler"] = handler
    context_windows.create_prepare_sampling_wrapper(graph.model)
    return graph


def skip_layers(model):
    scale = {"scale": 3.0, "start_percent": 0.0, "end_percent": 1.0}
    node = nodes_slg.SkipLayerGuidanceDiT
    return tiny_graphs.run(node, model, **scale, double_layers="0", single_layers="1")[0]


def captured(model, mechanism="auto"):
    """The model behind an I2AM Capture, and the handle."""
    handle = Capture(Settings(mechanism, "positive", "off", 2**29))
    return capture_with(model, handle), handle

"""Graphs that give a reference by routes of which attention shows nothing, or not all: made by the host's own nodes."""

from types import SimpleNamespace

import comfy.supported_models
import comfy_extras.nodes_cosmos as nodes_cosmos
import comfy_extras.nodes_edit_model as nodes_edit_model
import comfy_extras.nodes_lt as nodes_lt
import comfy_extras.nodes_model_patch as nodes_model_patch
import comfy_extras.nodes_video_model as nodes_video_model
import comfy_extras.nodes_wan as nodes_wan
import tiny_graphs
import tiny_models
import torch
from comfy.model_patcher import ModelPatcher
from tiny_graphs import Graph, TinyVAE
from tiny_models import TEXT_WIDTH, UNET

import nodes as comfyui_nodes


def wan22_i2v(**shape):
    """Wan 2.2 14B: the first frame is channels alone, and no CLIP."""
    graph = tiny_graphs.with_pixels(tiny_graphs._video(tiny_models.wan_t2v(in_dim=36), 1, **shape), 2)
    return tiny_graphs.through(nodes_wan.WanImageToVideo, graph, start_image=graph.references[0])


def wan_ti2v_5b(**shape):
    """Wan22ImageToVideoLatent: the first frame lies in the latent, with a time for each token."""
    graph = tiny_graphs._video(tiny_models.wan_t2v(in_dim=48, out_dim=48), 1, 48, **shape)
    image = tiny_graphs.pixels(2, 1, 64, 96)
    vae = TinyVAE(48, 4, 16)
    graph.latent = tiny_graphs.run(nodes_wan.Wan22ImageToVideoLatent, vae, 96, 64, 5, 1, image)[0]
    return graph


def cosmos_predict2(**shape):
    """CosmosPredict2ImageToVideoLatent: the same, for Cosmos Predict2's MiniTrainDIT."""
    graph = tiny_graphs._image(tiny_models.cosmos_predict2(), 1, 16, size=(2, 4, 6), lengths=(9, 9), cfg=3.0, **shape)
    image = tiny_graphs.pixels(2, 1, 32, 48)
    node = nodes_cosmos.CosmosPredict2ImageToVideoLatent
    graph.latent = tiny_graphs.run(node, TinyVAE(16, 4), 48, 32, 5, 1, image)[0]
    return graph


def cosmos(**shape):
    graph = tiny_graphs._image(tiny_models.cosmos(), 1, 16, size=(2, 4, 6), lengths=(9, 9), cfg=3.0, **shape)
    image = tiny_graphs.pixels(2, 1, 32, 48)
    graph.latent = tiny_graphs.run(nodes_cosmos.CosmosImageToVideoLatent, TinyVAE(16, 4), 48, 32, 9, 1, image)[0]
    return graph


def ltxv_text(**shape):
    graph = tiny_graphs._image(tiny_models.ltxv(), 1, 128, **{"size": (2, 2, 3), "lengths": (9, 9), "cfg": 3.0} | shape)
    return tiny_graphs.with_attention_mask(graph)


def ltxv_first_frame(**shape):
    """LTXVImgToVideo: the first frame lies in the latent."""
    graph = ltxv_text()
    image, vae = tiny_graphs.pixels(2, 1, 64, 96), TinyVAE(128, 8, 32)
    outputs = tiny_graphs.run(nodes_lt.LTXVImgToVideo, graph.positive, graph.negative, image, vae, 96, 64, 9, 1, 1.0)
    graph.positive, graph.negative, graph.latent = outputs
    return graph


def ltxv_guide(**shape):
    """LTXVAddGuide: a frame at the end of the latent, whose place in time is in the conditioning."""
    graph = ltxv_text()
    vae = TinyVAE(128, 8, 32)
    vae.downscale_index_formula = (8, 32, 32)
    image = tiny_graphs.pixels(2, 1, 64, 96)
    node = nodes_lt.LTXVAddGuide
    outputs = tiny_graphs.run(node, graph.positive, graph.negative, vae, graph.latent, image, 0, 1.0)
    graph.positive, graph.negative, graph.latent = outputs
    return graph


def svd(**shape):
    vision = SimpleNamespace(
        encode_image=lambda image: SimpleNamespace(image_embeds=tiny_graphs.noise(3, 1, TEXT_WIDTH))
    )
    image = tiny_graphs.pixels(2, 1, 64, 64)
    positive, negative, latent = tiny_graphs.run(
        nodes_video_model.SVD_img2vid_Conditioning, vision, image, TinyVAE(4), 64, 64, 3, 127, 6, 0.0
    )
    return Graph(tiny_models.svd(), positive, negative, latent, 2.0)


def controlled(strength=1.0, chain=1, graph=None):
    """ControlNetApply, so many times: ControlNets of one chain."""
    graph = graph or tiny_graphs.sd15_text()
    for number in range(chain):
        net, image = tiny_models.control_net(), tiny_graphs.pixels(2 + number, 1, 64, 64)
        net.strength = strength
        if strength:
            graph.positive = comfyui_nodes.ControlNetApply().apply_controlnet(graph.positive, net, image, strength)[0]
        else:  # the node leaves one of strength 0 out, packs do not
            graph.positive = [[tokens, about | {"control": net.copy()}] for tokens, about in graph.positive]
            graph.positive[0][1]["control"].set_cond_hint(image.movedim(-1, 1), 0.0)
    return graph


def unclip():
    """unCLIPConditioning: an image in the vector beside the time step."""
    tiny = UNET | {
        "use_linear_in_transformer": True,
        "num_classes": "sequential",
        "adm_in_channels": 1536,
        "model_channels": 64,
    }
    model = tiny_models.build(tiny, comfy.supported_models.SD21UnclipL)
    graph = tiny_graphs._image(model, 1, 4, **tiny_graphs.UNET)
    seen = SimpleNamespace(image_embeds=tiny_graphs.noise(3, 1, 768))
    graph.positive = comfyui_nodes.unCLIPConditioning().apply_adm(graph.positive, seen, 1.0, 0.0)[0]
    return graph


def with_reference(graph, *sizes, batch=1):
    """A ReferenceLatent for each of these sizes, each a batch."""
    channels = graph.latent["samples"].shape[1]
    for number, size in enumerate(sizes):
        latent = {"samples": tiny_graphs.noise(20 + number, batch, channels, *size)}
        graph.positive = tiny_graphs.run(nodes_edit_model.ReferenceLatent, graph.positive, latent)[0]
    return graph


def with_values(graph, **values):
    """What a pack's node would put into the positive conditioning."""
    graph.positive = [[tokens, about | values] for tokens, about in graph.positive]
    return graph


def through_inpaint(graph):
    """InpaintModelConditioning, whatever the model is."""
    return tiny_graphs.with_inpaint_canvas(graph, 2)


def blank(graph):
    """Latents that hold no picture, as nodes fill in for what is not connected."""
    samples = graph.latent["samples"]
    return torch.zeros_like(samples) + torch.arange(samples.shape[1]).view(1, -1, *[1] * (samples.ndim - 2))


def qwen_with_patch(strength=1.0, graph=None):
    """QwenImageDiffsynthControlnet: a picture by a network that is patched into the model."""
    graph = graph or tiny_graphs.qwen_edit(sizes=())
    denoiser = graph.model.model.diffusion_model
    width = denoiser.img_in.out_features
    network = nodes_model_patch.QwenImageBlockWiseControlNet(
        len(denoiser.transformer_blocks), dim=width, operations=torch.nn
    )
    tiny_models.fill(network)
    cpu = torch.device("cpu")
    image = tiny_graphs.pixels(2, 1, 64, 48)
    node = nodes_model_patch.QwenImageDiffsynthControlnet()
    patch = ModelPatcher(network, cpu, cpu)
    graph.model = node.diffsynth_controlnet(graph.model, patch, TinyVAE(16, 4), image, strength)[0]
    return graph

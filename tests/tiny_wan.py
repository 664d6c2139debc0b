"""Wan's newer kin, models and graphs: S2V, SCAIL, Bernini, Animate, and a video in context windows.

As in ``tiny_graphs``: real classes with random weights, made and sampled by the host's own nodes. A test of what this
core lacks is skipped by name; the order of its tokens has a stand-in in ``test_newer_video_orders.py``.
"""

import importlib
from typing import Any

import comfy.model_base
import comfy.supported_models
import comfy_extras.nodes_wan as nodes_wan
import tiny_graphs
import tiny_models
import torch
from comfy import context_windows
from this_core import VERSION, leave_out, need
from tiny_graphs import Graph, TinyVAE, pixels, vision
from tiny_models import WAN

VAE = TinyVAE(16, 4)


def newer_nodes(name: str, node: str) -> Any:
    """A node of a module that older cores lack."""
    try:
        return getattr(importlib.import_module(f"comfy_extras.{name}"), node)
    except (ImportError, AttributeError):
        leave_out(node)


def s2v(reference: int = 2, motion: int | None = 3, observed: bool = True, **shape: Any) -> Graph:
    """WanSoundImageToVideo with an image, and frames of motion before the video: ``video|R|motion``, no sound.

    ``observed``: only where the core hands the run's options on, which is since 0.8.
    """
    if observed and VERSION < (0, 8):
        leave_out("attention of S2V that gets the run's options")
    need(comfy.supported_models, "WAN22_S2V")
    model = tiny_models.build(WAN | {"model_type": "s2v", "audio_inject_layers": [0]})
    graph = tiny_graphs.with_pixels(tiny_graphs._video(model, 1, **{"size": (8, 16)} | shape), reference)
    height, width = (side * 8 for side in graph.latent["samples"].shape[-2:])
    inputs = {} if motion is None else {"ref_motion": pixels(motion, 73, height, width)}
    return tiny_graphs.through(nodes_wan.WanSoundImageToVideo, graph, ref_image=graph.references[0], **inputs)


def scail(
    reference: int = 2, images: int = 1, kind: str = "scail", poses: bool = True, clip: bool = True, **shape: Any
) -> Graph:
    """WanSCAILToVideo: reference images before the video, a video of poses after it at half the size, and CLIP."""
    node = newer_nodes("nodes_scail", "WanSCAILToVideo")
    model = tiny_models.build(WAN | {"model_type": kind, "in_dim": 20})
    graph = tiny_graphs.with_pixels(tiny_graphs._video(model, 1, **{"size": (8, 12)} | shape), reference, images)
    batch, _, _, height, width = graph.latent["samples"].shape
    inputs: dict[str, Any] = {"reference_image": torch.cat(graph.references)}
    if poses:
        inputs["pose_video"] = pixels(5, tiny_graphs.FRAMES, height * 8, width * 8)
    if clip:
        inputs["clip_vision_output"] = vision(reference, 257, 1280)
    if kind == "scail2":
        inputs["reference_image_mask"] = pixels(6, images, height * 8, width * 8).round()
        inputs["pose_video_mask"] = pixels(7, tiny_graphs.FRAMES, height * 8, width * 8).round()
    sizes = width * 8, height * 8, tiny_graphs.FRAMES, batch
    outputs = tiny_graphs.run(
        node, graph.positive, graph.negative, VAE, *sizes, pose_strength=1.0, pose_start=0.0, pose_end=1.0,
        video_frame_offset=0, previous_frame_count=5, **inputs,
    )  # fmt: skip
    graph.positive, graph.negative, graph.latent = outputs[:3]
    return graph


def scail2(**shape: Any) -> Graph:
    """The same for SCAIL-2, with masks of identities."""
    return scail(kind="scail2", **shape)


def bernini(reference: int = 2, images: int = 1, video: bool = True, **shape: Any) -> Graph:
    """BerniniConditioning: a video that is edited, then images of sizes of their own, after the generated video."""
    node = newer_nodes("nodes_bernini", "BerniniConditioning")
    graph = tiny_graphs._video(tiny_models.wan_t2v(), 1, **shape)
    batch, _, _, height, width = graph.latent["samples"].shape
    graph.references = [pixels(reference + n, 1, 32 + 16 * n, 48) for n in range(images)]
    named = {f"reference_image_{n}": image for n, image in enumerate(graph.references)}
    inputs = {"source_video": pixels(reference + 10, tiny_graphs.FRAMES, height * 8, width * 8)} if video else {}
    sizes = width * 8, height * 8, tiny_graphs.FRAMES, batch
    outputs = tiny_graphs.run(
        node, graph.positive, graph.negative, VAE, *sizes, reference_images=named, ref_max_size=64, **inputs
    )
    graph.positive, graph.negative, graph.latent = outputs
    return graph


def animate(
    reference: int = 2,
    clip: bool = True,
    cfg: float = 1.0,
    batch: int = 1,
    length: int = tiny_graphs.FRAMES,
    **inputs: Any,
) -> Graph:
    """WanAnimateToVideo: CLIP tokens, and the reference as the first frame of the latent, in channels beside it."""
    need(comfy.supported_models, "WAN22_Animate")
    model = tiny_models.build(WAN | {"model_type": "animate", "in_dim": 36})
    graph = tiny_graphs.with_pixels(tiny_graphs._video(model, 1, cfg=cfg, batch=batch), reference)
    seen = {"clip_vision_output": vision(reference, 257, 1280)} if clip else {}
    outputs = tiny_graphs.run(
        nodes_wan.WanAnimateToVideo, graph.positive, graph.negative, VAE, 48, 32, length, batch,
        **{"continue_motion_max_frames": 5, "video_frame_offset": 0, "reference_image": graph.references[0]}
        | seen | inputs,
    )  # fmt: skip
    graph.positive, graph.negative, graph.latent = outputs[:3]
    return graph


def animate2(reference: int = 2, poses: bool = True, clip: bool = True, cfg: float = 1.0, **inputs: Any) -> Graph:
    """WanAnimate2ToVideo: the reference as the first frame of the latent, CLIP tokens, and a branch for poses."""
    if not hasattr(nodes_wan, "WanAnimate2ToVideo"):
        leave_out("WanAnimate2ToVideo")
    model = tiny_models.build(WAN | {"model_type": "animate2", "in_dim": 36})
    graph = tiny_graphs.with_pixels(tiny_graphs._video(model, 1, cfg=cfg), reference)
    seen: dict[str, Any] = {"clip_vision_output": vision(reference, 257, 1280)} if clip else {}
    seen |= {"pose_video": pixels(5, tiny_graphs.FRAMES, 32, 48)} if poses else {}
    outputs = tiny_graphs.run(
        nodes_wan.WanAnimate2ToVideo, graph.positive, graph.negative, VAE, 48, 32, tiny_graphs.FRAMES, 1, 0,
        reference_image=graph.references[0], **seen, **inputs,
    )  # fmt: skip
    graph.positive, graph.negative, graph.latent = outputs[:3]
    return graph


def dancer(reference: int = 2, start: bool = True, batch: int = 1, cfg: float = 3.0) -> Graph:
    """WanDancerVideo: CLIP tokens of a reference, then of the first frame, in one softmax of their own."""
    node = newer_nodes("nodes_wandancer", "WanDancerVideo")
    model = tiny_models.build(
        WAN | {"model_type": "wandancer", "in_dim": 36, "audio_inject_layers": [0], "music_dim": 24}
    )
    graph = tiny_graphs.with_pixels(tiny_graphs._video(model, 1, cfg=cfg, batch=batch), reference)
    seen = {"clip_vision_output": vision(reference + 1, 257, 1280)} if start else {}
    outputs = tiny_graphs.run(
        node, graph.positive, graph.negative, VAE, 48, 32, tiny_graphs.FRAMES, start_image=graph.references[0],
        clip_vision_output_ref=vision(reference, 257, 1280), **seen,
    )  # fmt: skip
    graph.positive, graph.negative = outputs[:2]
    return graph


def in_windows(graph: Graph, length: int, overlap: int, causal_window_fix: bool = False, **handler: Any) -> Graph:
    """The graph, whose latent the host denoises so many frames at a time; the mean of windows is flat."""
    own = context_windows.IndexListContextHandler(
        context_windows.get_matching_context_schedule("standard_static"),
        context_windows.get_matching_fuse_method("flat"),
        context_length=length,
        context_overlap=overlap,
        dim=2,
        **handler,
    )
    own.causal_window_fix = causal_window_fix  # of newer ComfyUI cores: a further frame before each window
    graph.model = graph.model.clone()
    graph.model.model_options["context_handler"] = own
    return graph


def need_windows_of_conditionings() -> None:
    """Older cores fail themselves: they give a window the frames of the whole video beside its latent."""
    if not hasattr(comfy.model_base.BaseModel, "resize_cond_for_context_window"):
        leave_out("context windows that cut what is beside the latent")


def long_vace(reference: int = 2, images: int = 1, cfg: float = 1.0) -> Graph:
    """WanVaceToVideo: 5 frames of the latent behind one of the reference; a second is put before it, as packs do."""
    need_windows_of_conditionings()
    graph = tiny_graphs.with_pixels(tiny_graphs._video(tiny_models.wan_vace(), 1, cfg=cfg), reference, images)
    outputs = tiny_graphs.run(
        nodes_wan.WanVaceToVideo, graph.positive, graph.negative, VAE, 48, 32, 17, 1, strength=1.0,
        reference_image=graph.references[0],
    )  # fmt: skip
    graph.positive, graph.negative, graph.latent = outputs[:3]
    for _ in graph.references[1:]:
        for conditioning in (graph.positive, graph.negative):
            for name in ("vace_frames", "vace_mask"):
                (whole,) = conditioning[0][1][name]
                conditioning[0][1][name] = [torch.cat([whole[:, :, :1], whole], 2)]
        samples = graph.latent["samples"]
        graph.latent = {"samples": torch.cat([samples[:, :, :1], samples], 2)}
    return graph

"""Context windows: a long video whose frames are denoised some at a time (comfy/context_windows.py).

A frame that lies in several windows gets the mean of their outputs, weighted by its place in each: so do its maps.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

FRAMES = 2  # the dimension of frames in a latent [B, C, frames, h, w]


@dataclass(frozen=True)
class Window:
    """Some frames of the latent of a video, and how much each counts in the mean of all windows that hold it."""

    frames: Tensor  # [n]
    weight: Tensor  # [n]
    total_frames: int  # of the whole video
    is_first: bool  # of those that make up one evaluation of the denoiser


def window_of(model: Any, x: Tensor, latent: torch.Size, sigma: Tensor, options: Mapping[str, Any]) -> Window | None:
    """The window that ``x`` is; None where it is the whole latent, of shape ``[items, channels, (frames,) h, w]``."""
    try:
        return _window_of(model, x, latent, sigma, options)
    except Exception:  # of handlers that other packs bring: the call is then skipped
        log.warning("the context windows of this run could not be read", exc_info=True)
        return None


def _window_of(model: Any, x: Tensor, latent: torch.Size, sigma: Tensor, options: Mapping[str, Any]) -> Window | None:
    handler, present = options.get("context_handler"), options["transformer_options"].get("context_window")
    if handler is None or present is None or handler.dim != FRAMES or x.ndim != 5 or x.shape[2:] == latent[2:]:
        return None
    whole = torch.empty(latent, device="meta")  # its shape is all that counts
    windows = [list(w.index_list) for w in handler.get_context_windows(model, whole, options)]
    frames_here = list(present.index_list)
    anchor = getattr(present, "causal_anchor_index", None)
    anchors = [] if anchor is None else [anchor]  # newer ComfyUI cores put a frame there, and drop it from the output
    if frames_here not in windows or len(anchors) + len(frames_here) != x.shape[FRAMES]:
        return None
    total = torch.zeros(latent[FRAMES])
    for frames in windows:
        total[frames] += _weights(frames, len(total), handler, sigma)
    weight = _weights(frames_here, len(total), handler, sigma) / total[frames_here]
    weight = torch.cat([torch.zeros(len(anchors)), weight])
    return Window(torch.tensor(anchors + frames_here), weight, len(total), frames_here == windows[0])


def _weights(frames: Sequence[int], of: int, handler: Any, sigma: Tensor) -> Tensor:
    """How much each frame of a window counts, as ``combine_context_window_results`` has it: ``[n]``."""
    from comfy.context_windows import ContextFuseMethods, get_context_weights  # in here, as it may change

    if handler.fuse_method.name == ContextFuseMethods.RELATIVE:
        middle, half = (frames[0] + frames[-1]) / 2, (frames[-1] - frames[0] + 1e-2) / 2
        return torch.tensor([max(1e-2, 1 - abs(frame - middle) / half) for frame in frames])
    return torch.as_tensor(get_context_weights(len(frames), of, list(frames), handler, sigma=sigma)).cpu().float()

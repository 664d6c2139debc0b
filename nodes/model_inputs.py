"""What nodes on the MODEL line are given, checked."""

from comfy.model_base import BaseModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..i2am_core import inside_of
from .load_image import is_placeholder, placeholder_words


def diffusion_model(model: object, node: str) -> ModelPatcher:
    """The input ``model`` of a node. Raises ValueError where it is something else."""
    if not isinstance(model, ModelPatcher) or not isinstance(model.model, BaseModel):
        raise ValueError(f"{node} needs a diffusion model from one of ComfyUI's loaders, but got {_class_name(model)}.")
    return model


def marked(name: str, mask: Tensor | None) -> Tensor | None:
    """The mask of the input ``name`` as ``[n, H, W]``. Raises ValueError where it marks nothing."""
    if mask is None:
        return None
    mask = mask[None] if mask.ndim == 2 else mask
    if is_placeholder(mask):
        raise ValueError(f"{name} marks nothing: it is {placeholder_words()}.")
    if mask.ndim != 3 or not inside_of(mask).any():
        raise ValueError(
            f"{name} marks nothing (a mask of shape {tuple(mask.shape)}): paint the part that is meant, at any size, "
            "or disconnect the mask."
        )
    return mask.detach().float().cpu()


def marked_once(name: str, mask: Tensor | None) -> Tensor | None:
    """The same, of an input that takes one mask. Raises ValueError where there are more."""
    mask = marked(name, mask)
    if mask is not None and len(mask) != 1:
        raise ValueError(f"got {len(mask)} masks as {name}: give one, which is used for all pictures of the batch.")
    return mask


def _class_name(model: object) -> str:
    inner = getattr(model, "model", None)
    return f"a {type(model).__name__}" + (f" around a {type(inner).__name__}" if inner is not None else "")

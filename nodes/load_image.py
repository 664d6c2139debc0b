"""The mask that Load Image gives for a picture without transparency: nobody painted it, and its size is its own."""

from torch import Tensor

SIZE = (64, 64)  # ``LoadImage.load_image`` and ``LoadImageMask.load_image``, ComfyUI's nodes.py


def is_placeholder(mask: Tensor) -> bool:
    """Whether a mask ``[..., H, W]`` is what Load Image gives where a picture has no transparency."""
    return tuple(mask.shape[-2:]) == SIZE and not bool(mask.any())


def is_inverted_placeholder(mask: Tensor) -> bool:
    """Whether it may be that after Invert Mask. A full mask of this size is nothing else where it fits no picture."""
    return tuple(mask.shape[-2:]) == SIZE and bool((mask == 1).all())


def placeholder_words(required: bool = False, inverted: bool = False) -> str:
    """What such a mask is, and what to do: an input that must be there cannot be disconnected."""
    advice = "paint a mask" if required else "disconnect it, or paint a mask"
    values = "all ones, after Invert Mask" if inverted else "all zeros"
    return (
        f"Load Image's empty mask (64 x 64, {values}), which it gives for a picture without transparency: "
        f"{advice} (right-click on Load Image, Open in MaskEditor)"
    )


def check_not_placeholder(mask: Tensor, name: str, what: str = "the mask", required: bool = False) -> None:
    """Raises ValueError where the mask of the input ``name`` is Load Image's empty one."""
    if is_placeholder(mask):
        raise ValueError(f"{what} is empty: {name} is {placeholder_words(required)}.")

"""Why effects, or some of them, are not measured: in sentences for a person."""

from collections.abc import Callable

import comfy.model_management
from comfy.model_management import OOM_EXCEPTION

NOTHING_READ = (
    "the model reads no reference through attention that I2AM knows: connect the same conditioning, made without the "
    "reference, as `without`"
)
OUT_OF_MEMORY = "out of memory in the further evaluation: lower the size, or sample without I2AM Effect"
NO_TEXT = "the conditioning has no tokens of text in any attention that was observed"
NO_PLACES = "its tokens have no places in the image"
IN_WINDOWS = "the video is denoised in context windows, for which regions are not measured"
NO_BUDGET = "their maps do not fit a quarter of budget_mb of I2AM Capture"
NOT_EVALUATED = "the model was not evaluated with the {} conditioning in these steps"
NOT_COMPUTED = (
    "the model made no attention call in the further evaluation: it may be that a node has answered it from memory, as "
    "caches do (remove that node)"
)
READ_ELSEWHERE = "the model reads it in none of the steps that were measured: raise probe_steps of I2AM Effect"
WITHOUT_NOTHING = (
    "the conditioning `without` has nothing for these steps, which its start and end leave out: connect one for the "
    "whole run"
)
NO_PICTURE = (
    "effects are not measured: the latent is of {} dimensions, and only those of pictures [items, channels, height, "
    "width] and of videos are known"
)
PART_OF_LATENT = (
    "the model is evaluated for a latent of {}, where that of the run is of {} (tiled samplers, and packs that cut, "
    "resize or batch what the model is given, do so): what of the picture that is, is not known"
)
AUTOREGRESSIVE = (
    "the video is made block by block, by a model that keeps the keys and values of the blocks before: a further "
    "evaluation would be taken for the next block"
)
EVERYTHING, FLOOR = "references", "the noise floor"  # what is not measured, for a person


def reason_of(error: Exception) -> str:
    """Why something is not measured, in words."""
    if _is_out_of_memory(error):
        return OUT_OF_MEMORY
    return str(error).rstrip(".") if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def forget_frames(error: BaseException | None) -> None:
    """What raised an error may know it, and so all tensors of the calls that it went through: they must not stay."""
    known = set()
    while error is not None and id(error) not in known:
        known.add(id(error))
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _is_out_of_memory(error: Exception) -> bool:
    if OOM_EXCEPTION is Exception:  # ComfyUI on a PyTorch that has none of its own
        return isinstance(error, MemoryError)
    is_oom: Callable[[Exception], bool] = getattr(comfy.model_management, "is_oom", lambda error: False)
    return isinstance(error, OOM_EXCEPTION | MemoryError) or is_oom(error)  # newer ComfyUI cores have that function

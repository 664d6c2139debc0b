"""Models whose attention does not pass through ComfyUI's: they are recognised by name, to give a reason."""

import torch

OWN_KERNELS = (
    "runs attention in kernels of its own, which cannot be opened: use the same model in a format that ComfyUI "
    "itself runs (safetensors, fp8 or GGUF)"
)
NO_OPTIONS = (
    "replaces the model's forward by its own, which calls attention without the options of the run: nothing can be "
    "observed while it is applied, so remove it for the run that you want to capture"
)
REASONS = {  # a part of the name of a module or class, in lower case
    "nunchaku": OWN_KERNELS,
    "svdq": OWN_KERNELS,
    "diffusers": "runs the pipeline of another library inside ComfyUI, whose attention cannot be opened: use a "
    "workflow of ComfyUI's own nodes",
    "pulid": NO_OPTIONS,
    "ipadapterflux": NO_OPTIONS,
    "ipaflux": NO_OPTIONS,
}


def why_unobservable(denoiser: torch.nn.Module) -> str:
    """Why no attention call of this model was observed, in words for a person."""
    for owner in _owners(denoiser):
        for name, reason in REASONS.items():
            if name in owner.lower():
                return f"{owner} {reason}"
    return (
        f"no attention of the {type(denoiser).__name__} went through ComfyUI's: the model or a pack that patches it "
        "calls attention on its own, which I2AM cannot observe"
    )


def _owners(denoiser: torch.nn.Module) -> list[str]:
    """Names of the modules and classes whose code runs: of the model and its methods, and of all its parts."""
    parts = [denoiser, *denoiser.modules()]
    methods = [getattr(denoiser, name, None) for name in ("forward", "forward_orig", "_forward")]
    owners = [f"{type(part).__module__}.{type(part).__name__}" for part in parts]
    owners += [getattr(method, "__module__", None) or "" for method in methods]
    return list(dict.fromkeys(owners))

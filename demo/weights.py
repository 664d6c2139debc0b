"""Which weights of the demo model there are: those that ship, and where the repository is, some of its training."""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("weights.safetensors")
JOINT_WEIGHTS = WEIGHTS.with_name("joint_weights.safetensors")
CHECKPOINTS = WEIGHTS.parent / "checkpoints"  # not in the pack that ComfyUI's registry has
SHIPPED = "shipped"
MODELS = {  # by name the files, of which the mean is taken
    SHIPPED: (WEIGHTS,),
    "step 500": (CHECKPOINTS / "step_00500.safetensors",),
    "step 2000": (CHECKPOINTS / "step_02000.safetensors",),
    "average of step 2000 and shipped": (CHECKPOINTS / "step_02000.safetensors", WEIGHTS),
}
JOINT = "two references (joint attention)"
JOINT_MODELS = {
    JOINT: (JOINT_WEIGHTS,),
    f"{JOINT} at step 500": (CHECKPOINTS / "joint_00500.safetensors",),
    f"{JOINT} at step 1500": (CHECKPOINTS / "joint_01500.safetensors",),
}


def models() -> list[str]:
    """Names of those that are here and that this ComfyUI can load, the shipped one first."""
    known = MODELS | JOINT_MODELS if _knows_joint() else MODELS
    return [name for name, paths in known.items() if all(path.is_file() for path in paths)]


def _knows_joint() -> bool:
    """Whether ComfyUI's Flux has the form of the joint model: since 0.3.72, when it learned that of FLUX.2."""
    from comfy.ldm.flux.model import FluxParams

    return "global_modulation" in FluxParams.__dataclass_fields__

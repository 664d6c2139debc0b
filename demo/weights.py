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
JOINT = "two references, joint attention"
JOINT_MODELS = {
    JOINT: (JOINT_WEIGHTS,),
    f"{JOINT}, step 500": (CHECKPOINTS / "joint_00500.safetensors",),
    f"{JOINT}, step 1500": (CHECKPOINTS / "joint_01500.safetensors",),
}


def models() -> list[str]:
    """Names of those that are here, the shipped one first."""
    return [name for name, paths in (MODELS | JOINT_MODELS).items() if all(path.is_file() for path in paths)]

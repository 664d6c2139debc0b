"""Which weights of the demo model there are: those that ship, and where the repository is, some of its training."""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("weights.safetensors")
CHECKPOINTS = WEIGHTS.parent / "checkpoints"  # not in the pack that ComfyUI's registry has
SHIPPED = "shipped"
MODELS = {  # by name the files, of which the mean is taken
    SHIPPED: (WEIGHTS,),
    "step 500": (CHECKPOINTS / "step_00500.safetensors",),
    "step 2000": (CHECKPOINTS / "step_02000.safetensors",),
    "average of step 2000 and shipped": (CHECKPOINTS / "step_02000.safetensors", WEIGHTS),
}


def models() -> list[str]:
    """Names of those that are here, the shipped one first."""
    return [name for name, paths in MODELS.items() if all(path.is_file() for path in paths)]

"""Runs of a U-Net that are none of the picture: Advanced-ControlNet's reference modes run it on the reference first.

``refcn_diffusion_model_wrapper_factory`` of Kosinkadink/ComfyUI-Advanced-ControlNet (adv_control/control_reference.py)
runs the U-Net once on each reference, to *write* its features, and then on the picture, which *reads* them. It says in
the options which controls write, and which read. Controls of a context (AnimateDiff) write in the picture's own run.
"""

from collections.abc import Mapping
from typing import Any

WRITE = ("ref_write_attn_control_list", "ref_write_adain_control_list")


def writes_reference(options: Mapping[str, Any]) -> bool:
    """Whether a U-Net runs on a reference, as far as the options of its blocks say."""
    controls = (control for name in WRITE for control in options.get(name) or ())
    return any(not getattr(control, "is_context_ref", False) for control in controls)

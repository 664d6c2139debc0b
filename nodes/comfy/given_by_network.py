"""What a run was given through networks beside the model: ControlNets, and patches of ComfyUI's own nodes.

ControlNets are in the conditioning. What ``ModelPatchLoader`` loads (comfy_extras/nodes_model_patch.py) is in the
patches of the run: objects that say which ``models`` of their own they need, by which ComfyUI loads these.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ...i2am_core.given import GivenReference
from .callers import function_of
from .conditioning_keys import REFERENCES
from .ended_run import COMPARE, EndedRun
from .evaluation import KINDS
from .mechanisms.reference_control import ReferenceControl, kind_of_reference
from .mechanisms.uso_style import UsoStyle
from .pack_functions import functions_of

CONTROL = "through the ControlNet's own network, whose outputs are added inside the model"
ADAIN = "adain: the mean and the spread of its features, which the picture's are set to"
PATCH = "through a network of its own, whose outputs are added inside the model"
STRENGTH_IS_ZERO = "the strength is 0"
NO_STEPS = "its start and end leave out all steps of this run"
SET_STEPS = "Set its start and end so that steps of the run are between them"
OF_PATCH = f"I2AM Effect cannot take it away: {COMPARE}"
PROJECTOR = "UsoStyleProjectorPatch"
NODES = {  # class of a patch -> the node that has put it there
    "DiffSynthCnetPatch": "QwenImageDiffsynthControlnet",
    "ZImageControlPatch": "ZImageFunControlnet",
    "AnimaLLLitePatch": "AnimaLLLiteApply",
    "WanUni3CCnetPatch": "WanUni3CControlnetApply",
    "SUPIRPatch": "SUPIRApply",
    PROJECTOR: "USOStyleReference",
}
OF_SOUND = "MultiTalk"  # in the names of classes that bring sound


def given_by_controls(run: EndedRun, control: Any) -> Iterator[GivenReference]:
    """The ControlNets of a chain."""
    chain: list[Any] = []
    while control is not None and control not in chain:
        chain.append(control)
        control = getattr(control, "previous_controlnet", None)
    for control in [x for x in chain if kind_of_reference(x)]:
        chain.remove(control)
        yield from _of_reference(run, control)
    kinds = Counter((type(x).__name__, getattr(x, "strength", 1.0) == 0, _was_within(run, x)) for x in chain)
    for (kind, is_off, was_within), count in kinds.items():
        what = f"{REFERENCES['control']} ({kind})" if count == 1 else f"{count} ControlNets ({kind})"
        if is_off:
            yield GivenReference(what, "ignored", STRENGTH_IS_ZERO, key="control")
        elif not was_within:
            yield GivenReference(what, "ignored", NO_STEPS, SET_STEPS, "control")
        else:
            yield GivenReference(what, "elsewhere", CONTROL, run.measure, "control")


def _of_reference(run: EndedRun, control: Any) -> Iterator[GivenReference]:
    """A reference of Advanced-ControlNet: by attention, or by what its features are like as a whole, or both."""
    what = f"the picture of a Reference ControlNet ({type(control).__name__})"
    if not _was_within(run, control):
        yield GivenReference(what, "ignored", NO_STEPS, SET_STEPS, "control")
        return
    kind = kind_of_reference(control)
    if "attn" in kind and ReferenceControl.name in run.captured:
        yield GivenReference(what, "captured", f"by {ReferenceControl.name}", key="control")
    elif "attn" in kind:
        yield run.not_captured(what, [ReferenceControl.name], "control")
    if "adain" in kind:
        yield GivenReference(what, "elsewhere", ADAIN, run.measure, "control")


def _was_within(run: EndedRun, control: Any) -> bool:
    """Whether it took part in any evaluation, as far as its own range says."""
    first, last = getattr(control, "timestep_percent_range", (0.0, 1.0))
    return (first, last) == (0.0, 1.0) or run.was_within(first, last)


def given_by_patches(run: EndedRun) -> Iterator[GivenReference]:
    """Pictures that ComfyUI's own nodes patch into the model."""
    patches = {id(x): x for x in functions_of(run.options, KINDS) if callable(getattr(x, "models", None))}
    for patch in patches.values():
        function, name = function_of(patch), type(patch).__name__
        if not (function.pack == "comfy" or function.is_of_comfyui_node) or OF_SOUND in name:
            continue
        what = f"the picture of {NODES.get(name, name)}"
        if name == PROJECTOR and UsoStyle.name in run.captured:
            yield GivenReference(what, "captured", f"by {UsoStyle.name}", key="patches")
        elif getattr(patch, "strength", 1.0) == 0:
            yield GivenReference(what, "ignored", STRENGTH_IS_ZERO, key="patches")
        elif name == PROJECTOR:
            yield run.not_captured(what, [UsoStyle.name], "patches")
        else:
            yield GivenReference(what, "elsewhere", PATCH, OF_PATCH, "patches")

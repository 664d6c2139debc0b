"""Why no run that a Capture has kept made a latent, in a sentence: by the way that the latent has in the workflow.

What is proved is said as such; where it can be one of several things, all are named.
"""

from collections.abc import Sequence

from ...i2am_core.printing import listed
from .latent_line import LatentLine, Sampler
from .workflow_graph import Node

MOST_NAMED = 7  # nodes in a sentence


def why_no_run(line: LatentLine, started: bool) -> str:
    """Of a Capture, of which a run has ``started`` or none has; "" where that is not known."""
    capture = line.capture
    if capture is None:
        return ""
    if len(line.samplers) > 1:
        return _of_several(line.samplers, capture)
    if not line.samplers:
        return _without_sampler(line, capture) if line.certain and line.begins is not None else ""
    (sampler,) = line.samplers
    if sampler.model_line is None:
        return _of_other_model(sampler, capture) if line.certain and sampler.certain else ""
    if started and not line.certain:  # another sampler may have made it
        return ""
    if not sampler.gives_latents and started:
        return (
            f"{sampler} samples with the model of {capture}, but gives pictures and no latent: what was encoded from "
            "a picture is not what it sampled. Use I2AM Collect Runs, which takes the runs themselves."
        )
    if sampler.idle:
        return (
            f"{sampler} samples nothing, since {sampler.idle}: the latent that it is given goes through as it is, and "
            "there is nothing to capture."
        )
    if not started:
        return _not_reached(sampler, capture)
    if sampler.between:
        return (
            f"between {sampler} and this node the latent goes through {_listed(sampler.between)}: a latent that was "
            f"changed after sampling has no maps here. Connect the LATENT output of {sampler} itself."
        )
    return ""


def _of_several(samplers: Sequence[Sampler], capture: Node) -> str:
    """A reason that holds for one of them is none of the latent's: it may be another one, or all, that made it."""
    captured = [x for x in samplers if x.model_line is not None]
    if giving := [x for x in captured if x.gives_latents]:
        advice = (
            f"Connect the LATENT output of {_listed(giving, 'or')} itself, which samples with the model of {capture}."
        )
    elif captured:
        advice = "Use I2AM Collect Runs, which takes the runs themselves."
    else:
        advice = (
            "Connect the LATENT output of the one that is to have maps itself, and the MODEL output of "
            f"{capture} to that sampler."
        )
    return (
        f"this latent comes from several samplers, {_listed(samplers)} (from all of them, or from one), and I2AM "
        f"Collect takes the maps of one run. {advice}"
    )


def _without_sampler(line: LatentLine, capture: Node) -> str:
    return (
        f"no sampler made this latent in this workflow: it comes from {line.begins}. Connect the LATENT output of "
        f"the sampler that uses the model of {capture}."
    )


def _of_other_model(sampler: Sampler, capture: Node) -> str:
    if sampler.other_capture is not None:
        return (
            f"the model of {sampler}, which made this latent, comes from another I2AM Capture, "
            f"{sampler.other_capture}: connect the capture output of that one."
        )
    return (
        f"the model of {sampler}, which made this latent, does not come from {capture}: connect the "
        "MODEL output of that I2AM Capture to it."
    )


def _not_reached(sampler: Sampler, capture: Node) -> str:
    """The model is connected, and yet nothing of a run has come to the Capture."""
    way = f" by way of {_listed(sampler.model_line)}" if sampler.model_line else ""
    causes = []
    if sampler.model_line:
        several = len(sampler.model_line) > 1
        causes.append(
            f"{'one of the nodes between' if several else 'the node between'} leaves out what I2AM Capture has added "
            "to the model (place I2AM Capture behind it, right before the sampler)"
        )
    if not sampler.of_comfyui:
        causes.append(
            f"{sampler} does not sample in ComfyUI's own way, so that nothing of it can be captured (use a sampler of "
            "ComfyUI's)"
        )
    causes.append("it has nothing to sample (denoise 0, or a start that is not before the end)")
    causes.append("ComfyUI has taken the latent from its memory of an earlier queue (change the seed)")
    return (
        f"{sampler} has its model from {capture}{way}, but no run has come to that I2AM Capture. It may be that "
        f"{', or that '.join(causes)}."
    )


def _listed(things: Sequence[object], last: str = "and") -> str:
    return listed(things, MOST_NAMED, last)

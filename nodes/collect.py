"""I2AM Collect: the attribution of the sampling run that made a latent."""

from comfy_api.latest import io

from ..i2am_core import Attribution, Effects
from .checked import checked
from .comfy.blocked import blocked
from .comfy.given_in_words import advice_of, sentences_of
from .comfy.handle import Capture, NoRun
from .comfy.model_calls import is_unplaced
from .comfy.present_workflow import why_no_run_here
from .comfy.resampler_rollout import RolledOut
from .schema import AttributionHandle, CaptureHandle, Latent, Schema
from .summary import summary_of
from .wording import in_words

CONDITION = (
    "Condition on the reference in a way that I2AM knows (the help of I2AM Capture lists them), or choose another "
    "branch"
)
NO_CAPTURE = (
    "There is no capture, so there are no maps: I2AM Capture is bypassed or not connected. Bypass I2AM Collect too, or "
    "connect its capture."
)
UNPLACED = "which part of the picture the model was called for is not known of any call"


class I2AMCollect(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_Collect",
            display_name="I2AM Collect",
            description="Takes the maps of the run that made this latent out of an I2AM Capture.",
            inputs=[
                # Optional: bypassing Capture alone would else stop the queue, picture and all.
                CaptureHandle.Input("capture", optional=True, tooltip="From I2AM Capture."),
                io.Latent.Input(
                    "samples",
                    tooltip="The LATENT output of the sampler that used the captured model, or "
                    "pictures taken out of its batch.",
                ),
            ],
            outputs=[
                AttributionHandle.Output(display_name="attribution", tooltip="Goes to I2AM Maps and I2AM IMACS."),
                io.Latent.Output(display_name="samples", tooltip="The latent, unchanged."),
                io.String.Output(display_name="summary", tooltip="What was captured, how finely, and what was not."),
            ],
            hidden=[io.Hidden.dynprompt],  # not the node's own number, which would be part of what ComfyUI caches it by
        )

    @classmethod
    @in_words()
    @checked
    def execute(cls, capture: Capture | RolledOut | None = None, samples: Latent | None = None) -> io.NodeOutput:
        assert samples is not None  # it is required: ComfyUI has seen to that
        if capture is None:
            return io.NodeOutput(blocked(NO_CAPTURE), samples, NO_CAPTURE)
        try:
            attribution = capture.find(samples["samples"])
        except NoRun as error:  # ComfyUI puts the name of an error's type above its sentence
            workflow = getattr(cls.hidden, "dynprompt", None)
            raise ValueError(why_no_run_here(workflow, error.started) or str(error)) from None
        check_captured(attribution, capture.settings.mechanism)
        return io.NodeOutput(attribution, samples, summary_of(attribution))


def check_captured(attribution: Attribution, mechanism: str) -> None:
    """Raises ValueError where there is neither a map of attention nor an effect, with the reasons."""
    if is_empty(attribution):
        why = _no_attention(attribution, mechanism)
        no_use = bool(attribution.given) and all(given.fate == "ignored" for given in attribution.given)
        said = attribution.effects is None and (no_use or _is_unplaced(attribution) or "I2AM Effect" in why)
        raise ValueError(why if said else f"{why} {_no_effect(attribution.effects)}")


def is_empty(attribution: Attribution) -> bool:
    """Whether there is neither a map of attention nor an effect."""
    return not attribution.entries and not _was_measured(attribution.effects)


def _was_measured(effects: Effects | None) -> bool:
    """Whether anything was taken away in the run: where nothing changed then, that is a measurement, too."""
    return effects is not None and bool(effects.maps or effects.regions)


def _is_unplaced(attribution: Attribution) -> bool:
    """Whether no call of the model could be read, as where a pack cuts the picture into tiles."""
    return bool(attribution.skipped) and all(map(is_unplaced, attribution.skipped))


def _no_attention(attribution: Attribution, mechanism: str) -> str:
    """Why there is no map of attention, in sentences: what was given and its fate, and what to do."""
    reasons = "; ".join(f"{count} x {reason}" for reason, count in attribution.skipped.items())
    given, advice = sentences_of(attribution.given), advice_of(attribution.given)
    where = f"in the {attribution.branch} conditioning (mechanism '{mechanism}')"
    if not reasons:
        sentences = ["I2AM observed no attention call: " + "; ".join(attribution.notes)]
    elif _is_unplaced(attribution):
        sentences, advice = [f"I2AM could not look for a reference {where}: {UNPLACED}"], []
    elif any(x.certain for x in attribution.given):
        sentences = [f"I2AM captured nothing of what was given {where}"]
    else:
        in_latent = any(x.key == "samples" for x in attribution.given)
        sentences = [f"I2AM found no reference {where}" + ("" if in_latent else ", nor in the latent")]
        advice = [*advice, CONDITION]
    sentences += given
    if reasons:
        sentences += [*attribution.notes, f"Attention calls: {reasons}"]
    return " ".join(f"{sentence}." for sentence in [*sentences, *advice])


def _no_effect(effects: Effects | None) -> str:
    """Why nothing was measured, or what to do for it, in a sentence."""
    if effects is None:
        return "What a reference causes can be measured without attention: by I2AM Effect, with its input without."
    reasons = "; ".join(effects.reasons)
    return "I2AM Effect measured nothing" + (f" ({reasons})." if reasons else ".")

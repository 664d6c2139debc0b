"""One sampling run: listen in on every attention call, file what it says, and leave nothing behind.

I2AM Capture only adds an OUTER_SAMPLE wrapper to a clone of the model. The rest is installed when a run
starts, on the options that ComfyUI made for this run alone (``CFGGuider.sample``, comfy/samplers.py), so
that it sits around whatever other nodes have patched in, and is undone when the run ends in any way.
Whatever goes wrong in here is a skip with a reason: the picture comes first.
"""

import dataclasses
import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import comfy.patcher_extension
import comfy.sampler_helpers
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_management import InterruptProcessingException
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy_api.torch_helpers.torch_compile import TORCH_COMPILE_KWARGS
from torch import Tensor

from ...i2am_core.attribution import Attribution
from ...i2am_core.listening import Listener
from ...i2am_core.recorder import Recorder
from ...i2am_core.tokens import TokenGrid
from .attention_call import AttentionCall
from .blind import why_blind
from .capture import Capture
from .filing import Filing
from .model_calls import ModelCalls, conditionings_of
from .sources import SOURCES, CallSite, ModelCall, Regions, Source
from .tags import pictures

log = logging.getLogger(__name__)

KEY = "i2am"
BRANCHES = ("positive", "negative")  # names of conditionings in ComfyUI's guiders
COMPILED = (
    "the model is compiled (torch.compile): its graph is broken at every attention call while it is captured, so that "
    "it is slower, and the picture may differ from one without capture in its last digits"
)
VIDEO_MASK = "the mask of a video, of what is painted, is not told apart: the whole video asks"
UNASKED = (
    "the model was never asked for its {} conditioning: ComfyUI leaves the negative out where guidance is off (cfg 1)"
)
PATIENCE = 8  # calls without a sound before we stop listening


def capture_with(model: ModelPatcher, capture: Capture) -> ModelPatcher:
    """A clone of the model whose every sampling run is captured."""

    def outer_sample(executor, noise, latent_image, sampler, sigmas, denoise_mask=None, callback=None, *args, **kwargs):
        capture.started += 1
        if not isinstance(noise, Tensor):
            capture.failure = f"I2AM cannot look into a run on several latents at once ({type(noise).__name__})"
            return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, *args, **kwargs)
        run = None
        with ExitStack() as stack:
            try:
                run = _Run(capture, executor.class_obj, noise, sigmas, denoise_mask)
                stack.enter_context(run.installed())
                callback = run.watch(callback)
            except Exception as error:
                log.warning("a run could not be watched", exc_info=True)
                capture.failure = f"{type(error).__name__}: {error}"
                run = None
            output = executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, *args, **kwargs)
        if run is not None:
            run.keep(output)
        return output

    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, outer_sample)
    return patched


class _Run:
    """Everything that belongs to one call of a sampler."""

    def __init__(
        self, capture: Capture, guider: Any, noise: Tensor, sigmas: Tensor, denoise_mask: Tensor | None
    ) -> None:
        self.capture = capture
        self.settings = capture.settings
        self.guider = guider
        self.sources = [s for s in SOURCES.values() if self.settings.mechanism in ("auto", s.name)]
        grid = TokenGrid(*noise.shape[-2:], frames=noise.shape[2] if noise.ndim == 5 else 1)
        painted = _mask_of(guider, self.settings.branch, denoise_mask, noise)
        marked = self.settings.regions
        canvas = Regions(painted if marked.generated is None else marked.generated, marked.reference)
        self.recorder = Recorder(sigmas, noise.shape[0], self.settings.budget_bytes)
        self.filing = Filing(self.recorder, self.settings.pair_maps, grid, painted)
        self.calls = ModelCalls(
            guider, self.settings.branch, noise, self.recorder.sigmas, canvas, self.filing.skip, self.filing.note
        )
        if denoise_mask is not None and noise.ndim == 5:
            self.filing.note(VIDEO_MASK)
        self._last_denoised: Tensor | None = None
        self._silent: Counter[Callable] = Counter()  # calls of an attention function in which nothing was overheard
        self._local = threading.local()  # ComfyUI may run the chunks of one step in several threads

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Listen in for as long as the block runs."""
        model_options = self.guider.model_options
        original = model_options["transformer_options"]
        options = comfy.patcher_extension.copy_nested_dicts(original)
        options["optimized_attention_override"] = _eager(self._override(options.get("optimized_attention_override")))
        if isinstance(self.guider.model_patcher.model.diffusion_model, UNetModel):  # elsewhere they mean other things
            patches = options.setdefault("patches", {})
            patches["attn1_patch"] = [*patches.get("attn1_patch", ()), _eager(self._before_self_attention)]
            first, last = _eager(self._note_context), _eager(self._before_cross_attention)
            patches["attn2_patch"] = [first, *patches.get("attn2_patch", ()), last]
        for kind, wrapper in (
            (WrappersMP.CALC_COND_BATCH, self._calc_cond_batch),
            (WrappersMP.APPLY_MODEL, self._apply_model),
        ):
            comfy.patcher_extension.add_wrapper_with_key(kind, KEY, wrapper, options)
        for source in self.sources:
            if hasattr(source, "install"):
                source.install(options, _eager(self._take))
        model_options["transformer_options"] = options
        if TORCH_COMPILE_KWARGS in model_options:
            self.filing.note(COMPILED)
        try:
            yield
        finally:
            model_options["transformer_options"] = original

    def watch(self, callback: Callable | None) -> Callable | None:
        """The sampler's callback, and a look at the denoised latent: some nodes output that one."""
        if callback is None:
            return None

        def watching(step, denoised, *args, **kwargs):
            self._last_denoised = denoised
            return callback(step, denoised, *args, **kwargs)

        return watching

    def keep(self, output: Tensor) -> None:
        """Hand the finished attribution to the capture, under the latents that this run gave."""
        try:
            latents = [output]
            if self._last_denoised is not None:
                base = self.guider.model_patcher.model
                latents.append(base.process_latent_out(self._last_denoised.to("cpu", torch.float32)))
            self.capture.keep(self._finish(), latents)
        except Exception as error:
            log.warning("the maps of this run could not be finished", exc_info=True)
            self.capture.failure = f"{type(error).__name__}: {error}"

    def _finish(self) -> Attribution:
        if not self.recorder.calls and not self.recorder.skipped:
            denoiser = self.guider.model_patcher.model.diffusion_model
            self.filing.note(why_blind(denoiser) if self.calls.asked else UNASKED.format(self.settings.branch))
        known = pictures(conditionings_of(self.guider, self.settings.branch))
        found = self.recorder.freeze(
            grid=self.filing.grid, denoise_mask=self.filing.denoise_mask, branch=self.settings.branch
        )
        return dataclasses.replace(  # only now is it known which references there are
            found,
            mechanism=found.mechanism or self.settings.mechanism,
            pictures={f"reference {n}": known[r.key] for n, r in enumerate(found.references) if r.key in known},
        )

    def _calc_cond_batch(self, executor, model, conds, x_in, timestep, model_options, *args, **kwargs):
        with self.calls.evaluating(model, conds, x_in, timestep, model_options):
            return executor(model, conds, x_in, timestep, model_options, *args, **kwargs)

    def _apply_model(self, executor, x, t, c_concat, c_crossattn, control, transformer_options, **kwargs):
        self._local.call = self._describe(executor.class_obj, x, c_crossattn, transformer_options, kwargs)
        self._local.number = 0
        self._local.expected = None
        self._local.replaced = transformer_options.get("patches_replace", {})  # a call's own options may lack it
        try:
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
        finally:
            self._local.call = None

    def _describe(self, model, x, text, options, conditions) -> ModelCall | None:
        try:
            return self.calls.describe(model, x, text, options, conditions)
        except Exception as error:
            log.warning("a call of the model could not be read", exc_info=True)
            self.filing.skip(f"I2AM could not read a call of the model ({type(error).__name__}: {error})")
            return None

    def _before_self_attention(self, n, context, value, options):
        """ComfyUI calls this right before a block's attn1; tensors pass unchanged."""
        self._local.expected = ("attn1", _block_of(options))
        return n, context, value

    def _note_context(self, n, context, value, options):
        """First of the attn2 patches: what the block is about to look at."""
        self._local.context = (context, value)
        return n, context, value

    def _before_cross_attention(self, n, context, value, options):
        """Last of the attn2 patches, right before attn2: has another pack put in something else?"""
        noted = self._local.context
        changed = context is not noted[0] or value is not noted[1]
        self._local.expected = ("changed attn2" if changed else "attn2", _block_of(options))
        return n, context, value

    def _override(self, previous: Callable | None) -> Callable:
        def attend(attention, *args, **kwargs):
            call = getattr(self._local, "call", None)
            with self._listen(attention, call) as listener:
                output = previous(attention, *args, **kwargs) if previous else attention(*args, **kwargs)
            if call is not None:
                self._silent[attention] += listener is not None and listener.silent
                self._observe(call, args, kwargs, kwargs.get("transformer_options") or {}, self.sources, listener)
            return output

        return attend

    def _take(self, args: tuple, kwargs: Mapping[str, Any], options: Mapping[str, Any], source: Source) -> None:
        """An attention call that a source has heard of by itself."""
        call = getattr(self._local, "call", None)
        if call is not None:
            self._observe(call, args, kwargs, options, [source])

    def _listen(self, attention: Callable, call: ModelCall | None) -> AbstractContextManager[Listener | None]:
        """Overhear the kernel of a watched call, unless this kind of attention has never let anything be heard."""
        deaf = call is None or self._silent[attention] >= PATIENCE
        return nullcontext() if deaf else Listener()

    def _observe(
        self,
        call: ModelCall,
        args: tuple,
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        sources: Sequence[Source],
        listener: Listener | None = None,
    ) -> None:
        block = _block_of(options)
        try:
            attention = AttentionCall.read(args, kwargs)
            if attention.q.shape[0] != call.x[0]:
                self.filing.skip(
                    "attention over other rows than the model was given: it splits them, or another pack changed them"
                )
                return
            site = CallSite(
                layer=_layer_name(block, options),
                role=self._role(block),
                number=self._local.number,
                queries=attention.q.shape[2],
                keys=attention.k.shape[2],
                heads=attention.q.shape[1],
                grid=TokenGrid(*options["activations_shape"][2:]) if "activations_shape" in options else None,
                k=attention.k,
            )
            self._local.number += 1
            total = None
            if listener is not None:
                total = listener.total(attention.q, attention.k, attention.scale, attention.bias)
            self.filing.file(call, attention, site, sources, total)
        except InterruptProcessingException:
            raise
        except Exception as error:
            reason = f"I2AM could not read it ({type(error).__name__}: {error})"
            if reason not in self.recorder.skipped:
                log.warning(
                    "attention call in layer %s skipped: %s", _layer_name(block, options), reason, exc_info=True
                )
            self.filing.skip(reason)

    def _role(self, block: tuple | None) -> str:
        """What ComfyUI's own hooks announced for this call, or "" where it could be anything."""
        announced, self._local.expected = self._local.expected, None
        if block is None or announced is None or announced[1] != block:
            return ""
        kind = announced[0].removeprefix("changed ")
        replaced = self._local.replaced.get(kind, {})
        return "" if block in replaced or block[:2] in replaced else announced[0]


def _mask_of(guider: Any, branch: str, denoise_mask: Tensor | None, noise: Tensor) -> Tensor | None:
    """What is to be painted, ``[items, h, w]`` on the latent's grid: the sampler's mask, or an inpainting model's."""
    if denoise_mask is None:
        known = conditionings_of(guider, branch)
        denoise_mask = next((c["concat_mask"] for c in known if c.get("concat_mask") is not None), None)
    if denoise_mask is None or noise.ndim != 4:
        return None
    if denoise_mask.ndim == 4:  # newer cores hand out a mask that is prepared already, one for each channel
        denoise_mask = denoise_mask.mean(1, keepdim=True)
    return comfy.sampler_helpers.prepare_mask(denoise_mask, noise.shape, "cpu").float().mean(1)


def _eager(function: Callable) -> Callable:
    """Kept out of the graph of a compiled model. PyTorch's compiler is slow to import: only where it is there."""
    return torch.compiler.disable(function) if "torch._dynamo" in sys.modules else function


def _block_of(options: Mapping[str, Any]) -> tuple | None:
    if "block" not in options:
        return None
    return (*options["block"], options.get("block_index", 0))


def _layer_name(block: tuple | None, options: Mapping[str, Any]) -> str:
    """As U-Nets say it, or transformers; "" where the model does not."""
    if block:
        return f"{block[0]} {block[1]}.{block[2]}"
    if "block_index" in options:
        return f"{options.get('block_type', 'block')} {options['block_index']}"
    return ""

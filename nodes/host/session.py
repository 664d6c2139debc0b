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
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import comfy.patcher_extension
import comfy.sampler_helpers
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_base import BaseModel
from comfy.model_management import InterruptProcessingException
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy_api.torch_helpers.torch_compile import TORCH_COMPILE_KWARGS
from torch import Tensor

from ...i2am_core.attention import attribute
from ...i2am_core.attribution import Attribution, Layer, Reference
from ...i2am_core.listening import Listener
from ...i2am_core.recorder import Recorder
from ...i2am_core.regions import cells_of
from ...i2am_core.tokens import TokenGrid
from .attention_call import AttentionCall
from .blind import why_blind
from .capture import Capture
from .placement import Part, parts_of, place, spread, weight_on
from .sources import SOURCES, CallSite, Chunk, ModelCall, Probe, Regions, Skip, Source
from .steps import step_of
from .tags import pictures
from .windows import Window, place_frames, spread_frames, weight_of_frames, window_of

log = logging.getLogger(__name__)

KEY = "i2am"
BRANCHES = ("positive", "negative")  # names of conditionings in ComfyUI's guiders
COMPILED = (
    "the model is compiled (torch.compile): its graph is broken at every attention call while it is captured, so that "
    "it is slower, and the picture may differ from one without capture in its last digits"
)
COMBINED = (
    "several conditionings were combined, or limited to a part of the picture: each counts with its weight at every "
    "position in 'share'; 'paper' maps are the plain mean of those captured"
)
NEAREST = "the area of a conditioning does not start on a cell of every layer: there, maps are put on the nearest cell"
VIDEO_MASK = "the mask of a video, of what is painted, is not told apart: the whole video asks"
WINDOWS = "the video was denoised in context windows: maps of a frame are the mean of those windows that hold it"
UNASKED = (
    "the model was never asked for its {} conditioning: ComfyUI leaves the negative out where guidance is off (cfg 1)"
)
UNKNOWN = "attention in which I2AM knows no reference"
PATIENCE = 8  # calls without a sound before we stop listening
PAIR_MAPS = ("inpainting mask", "everywhere", "off")


def capture_with(model: ModelPatcher, capture: Capture) -> ModelPatcher:
    """A clone of the model whose every sampling run is captured."""

    def outer_sample(executor, noise, latent_image, sampler, sigmas, denoise_mask=None, callback=None, *args, **kwargs):
        capture.started += 1
        if not isinstance(noise, Tensor):
            capture.failure = f"I2AM cannot look into a run on several latents at once ({type(noise).__name__})"
            return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, *args, **kwargs)
        run = _Run(capture, executor.class_obj, noise, sigmas, denoise_mask)
        with run.installed():
            output = executor(noise, latent_image, sampler, sigmas, denoise_mask, run.watch(callback), *args, **kwargs)
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
        self.recorder = Recorder(sigmas, noise.shape[0], self.settings.budget_bytes)
        self.grid = TokenGrid(*noise.shape[-2:], frames=noise.shape[2] if noise.ndim == 5 else 1)
        self.items, self.latent, self._shape = noise.shape[0], noise.shape[2:], noise.shape
        self.denoise_mask = _mask_of(guider, self.settings.branch, denoise_mask, noise)
        if denoise_mask is not None and noise.ndim == 5:
            self.recorder.notes[VIDEO_MASK] = None
        marked = self.settings.regions
        self.canvas = Regions(self.denoise_mask if marked.generated is None else marked.generated, marked.reference)
        self.mechanisms: Counter[str] = Counter()
        self._last_denoised: Tensor | None = None
        self._watched: list[Mapping[str, Any] | None] = []  # by position in the lists of the present calc_cond_batch
        self._parts: list[dict[Any, Part]] = []  # likewise
        self._window: Window | None = None  # of the present calc_cond_batch
        self._asked = False  # whether the denoiser was called for the watched branch
        self._evaluation = 0  # of the denoiser, in one or several calls
        self._step = 0
        self._regions: dict[TokenGrid, Tensor] = {}
        self._silent: Counter[Callable] = Counter()  # calls of an attention function in which nothing was overheard
        self._local = threading.local()  # ComfyUI may run the chunks of one step in several threads
        self._lock = threading.Lock()

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
            self.recorder.notes[COMPILED] = None
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
            self.recorder.notes[why_blind(denoiser) if self._asked else UNASKED.format(self.settings.branch)] = None
        known = pictures((getattr(self.guider, "conds", None) or {}).get(self.settings.branch) or ())
        return self.recorder.freeze(
            pictures={f"reference {n}": known[r.key] for n, r in enumerate(self.recorder.references) if r.key in known},
            grid=self.grid,
            denoise_mask=self.denoise_mask,
            mechanism=", ".join(self.mechanisms) or self.settings.mechanism,
            branch=self.settings.branch,
        )

    def _calc_cond_batch(self, executor, model, conds, x_in, timestep, model_options, *args, **kwargs):
        """Learn which lists of conditionings are the watched branch (``_calc_cond_batch``, comfy/samplers.py).

        Not by position: guiders and guidance patches order them as they like. The guider's own dictionaries
        of the branch are recognised in them; uuids are not unique, since ComfyUI copies dictionaries.
        """
        ours = {id(c): c for c in (getattr(self.guider, "conds", None) or {}).get(self.settings.branch) or ()}
        before = self._watched, self._parts, self._window
        if "context_window" in model_options["transformer_options"]:  # copies, but not of another branch
            uuids = {c.get("uuid") for c in ours.values() if "area" not in c}
            ours = {id(c): c for conditionings in conds for c in conditionings or () if c.get("uuid") in uuids}
        self._watched = [_by_uuid(conditionings, ours) for conditionings in conds]
        self._window = window_of(model, x_in, self._shape, timestep, model_options)
        self._parts = [parts_of(c, x_in, timestep) if w else {} for c, w in zip(conds, self._watched, strict=True)]
        self._evaluation += self._window is None or self._window.is_first
        try:
            return executor(model, conds, x_in, timestep, model_options, *args, **kwargs)
        finally:
            self._watched, self._parts, self._window = before

    def _apply_model(self, executor, x, t, c_concat, c_crossattn, control, transformer_options, **kwargs):
        self._local.call = self._describe(executor.class_obj, x, c_crossattn, transformer_options, kwargs)
        self._local.number = 0
        self._local.unnamed = Counter()
        self._local.expected = None
        self._local.replaced = transformer_options.get("patches_replace", {})  # a call's own options may lack it
        try:
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
        finally:
            self._local.call = None

    def _describe(
        self,
        model: BaseModel,
        x: Tensor,
        text: Tensor | None,
        options: Mapping[str, Any],
        conditions: Mapping[str, Any],
    ) -> ModelCall | None:
        """What this call of the denoiser is, or None where it has no rows of the watched branch."""
        if not {"cond_or_uncond", "uuids", "sigmas"} <= options.keys():
            self._skip("a call of the model by another pack, which does not say whose it is")
            return None
        chunks = self._watched_chunks(x.shape[0], options)
        if not chunks:
            return None
        self._asked = True
        if x.shape[0] != self.items * len(options["cond_or_uncond"]):
            self._skip(
                f"a call with {x.shape[0]} rows, not {self.items} for each conditioning, as context windows make them: "
                "not supported yet"
            )
            return None
        whole = self.latent if self._window is None else (len(self._window.frames), *self.latent[1:])
        if len(self.latent) == 3 and x.shape[2] != whole[0] and x.shape[3:] == whole[1:]:
            self._skip(f"a call for {x.shape[2]} of the {self.latent[0]} frames of the video: which ones is not known")
            return None
        if any(x.shape[2:] != (whole if c.part is None else c.part.weight.shape[1:]) for c in chunks):
            self._skip(
                f"a call for {_size(x.shape)} of the {_size(self.latent)} latent, as tiled samplers make them: where "
                "that lies is not known"
            )
            return None
        if any(c.part is not None for c in chunks):
            self.recorder.notes[COMBINED] = None
        if self._window is not None:
            self.recorder.notes[WINDOWS] = None
        with self._lock:
            self._step = step_of(float(options["sigmas"].max()), self.recorder.sigmas, self._step)
        tokens = 0 if text is None else text.shape[1]
        return ModelCall(self._step, chunks, model, x.shape, tokens, conditions, options, self.canvas, self._window)

    def _watched_chunks(self, rows: int, options: Mapping[str, Any]) -> tuple[Chunk, ...]:
        lists, uuids = options["cond_or_uncond"], options["uuids"]
        size = rows // len(lists)
        chunks = []
        for i, (number, uuid) in enumerate(zip(lists, uuids, strict=True)):
            watched = self._watched[number] if number < len(self._watched) else None
            if watched is not None and uuid in watched:
                part = self._parts[number].get(uuid)
                chunks.append(Chunk(slice(i * size, (i + 1) * size), watched[uuid], part))
        return tuple(chunks)

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
                self._skip(
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
            self._file(call, attention, site, sources, total)
        except InterruptProcessingException:
            raise
        except Exception as error:
            reason = f"I2AM could not read it ({type(error).__name__}: {error})"
            if reason not in self.recorder.skipped:
                log.warning(
                    "attention call in layer %s skipped: %s", _layer_name(block, options), reason, exc_info=True
                )
            self._skip(reason)

    def _role(self, block: tuple | None) -> str:
        """What ComfyUI's own hooks announced for this call, or "" where it could be anything."""
        announced, self._local.expected = self._local.expected, None
        if block is None or announced is None or announced[1] != block:
            return ""
        kind = announced[0].removeprefix("changed ")
        replaced = self._local.replaced.get(kind, {})
        return "" if block in replaced or block[:2] in replaced else announced[0]

    def _file(
        self,
        call: ModelCall,
        attention: AttentionCall,
        site: CallSite,
        sources: Sequence[Source],
        total: Tensor | None,
    ) -> None:
        """Ask every source about every chunk; capture what one proves, and note why the rest is skipped."""
        used = Counter(dict.fromkeys((s.name for s in sources), 0))
        for chunk in call.chunks:
            answers = [(source.name, source.probe(site, chunk, call)) for source in sources]
            probes = [(name, answer) for name, answer in answers if isinstance(answer, Probe)]
            for name, probe in probes:
                self._capture(call, attention, chunk, self._named(name, probe), total)
                self.mechanisms[name] += 1
                used[name] |= 1
            if probes:
                with self._lock:
                    self.recorder.calls += 1
            else:
                self._skip(next((a.reason for _, a in answers if isinstance(a, Skip)), UNKNOWN))
        self._local.unnamed.update(used)

    def _named(self, source: str, probe: Probe) -> Probe:
        """A layer that the model does not name is numbered, among the captured calls of its source."""
        if probe.layer.name:
            return probe
        name = f"block {self._local.unnamed[source]}"
        return dataclasses.replace(probe, layer=dataclasses.replace(probe.layer, name=name))

    def _capture(
        self, call: ModelCall, attention: AttentionCall, chunk: Chunk, probe: Probe, total: Tensor | None
    ) -> None:
        layer, gain, placement = probe.layer, probe.gain, None
        if chunk.part is not None:
            weight = weight_on(chunk.part, layer.grid)
            gain = weight if gain is None else gain * weight.to(gain.device)
            placement = place(chunk.part, layer.grid, self.grid)
        elif call.window is not None:
            weight = weight_of_frames(call.window, layer.grid)
            gain = weight if gain is None else gain * weight.to(gain.device)
            placement = place_frames(call.window, layer.grid)
        if placement is not None:
            layer = dataclasses.replace(layer, grid=placement.grid)
        with self._lock:
            references = [Reference(g.name, g.places, g.grid, g.key, embeds=g.embeds) for g in probe.references]
            numbers = [self.recorder.reference(reference) for reference in references]
            region = self._region(layer.grid)
            tokens = [g.places for g in probe.references]
            pair_rows = None if placement else self._pair_rows(numbers, tokens, layer, region)
        whole = probe.keys == slice(0, attention.k.shape[2])
        marginals = attribute(
            attention.q[chunk.rows],
            attention.k[chunk.rows][:, :, probe.keys],
            probe.references,
            queries=probe.queries,
            scale=attention.scale,
            bias=attention.bias_of(chunk.rows, probe.keys),
            scope=region[:, placement.cells] if placement and region is not None else region,
            pair_rows=pair_rows,
            gain=gain,
            chunk_bytes=self.recorder.chunk_bytes,
            total=total[chunk.rows] if whole and total is not None else None,
        )
        with self._lock:
            self.recorder.row_sums[marginals[0].row_sums] += 1
            notes = [probe.note, NEAREST if placement and not placement.exact else ""]
            self.recorder.notes.update(dict.fromkeys(filter(None, notes)))
            for number, group, maps in zip(numbers, probe.references, marginals, strict=True):
                if call.window is not None:
                    maps = dataclasses.replace(maps, **spread_frames(maps, placement, weight))
                elif placement:
                    maps = dataclasses.replace(maps, **spread(maps, placement, region))
                self.recorder.add(layer, call.step, number, maps, pair_rows, self._evaluation, group.grid)

    def _skip(self, reason: str) -> None:
        with self._lock:
            self.recorder.skipped[reason] += 1

    def _region(self, grid: TokenGrid) -> Tensor | None:
        """The inpainting mask on a layer's grid: ``[items, cells]``, True where the picture is painted."""
        if self.denoise_mask is None:
            return None
        if grid not in self._regions:
            self._regions[grid] = cells_of(self.denoise_mask, grid)
        return self._regions[grid]

    def _pair_rows(
        self, references: list[int], tokens: list[int], layer: Layer, region: Tensor | None
    ) -> Tensor | None:
        if self.settings.pair_maps == "everywhere":
            rows = torch.arange(layer.grid.cells)
        elif self.settings.pair_maps == "inpainting mask" and region is not None:
            rows = region.any(0).nonzero().flatten()
        else:
            return None
        fits = [
            self.recorder.pairs_fit(reference, layer, len(rows), count)
            for reference, count in zip(references, tokens, strict=True)
        ]
        return rows if all(fits) else None


def _mask_of(guider: Any, branch: str, denoise_mask: Tensor | None, noise: Tensor) -> Tensor | None:
    """What is to be painted, ``[items, h, w]`` on the latent's grid: the sampler's mask, or an inpainting model's."""
    if denoise_mask is None:
        conditionings = (getattr(guider, "conds", None) or {}).get(branch) or ()
        denoise_mask = next((c["concat_mask"] for c in conditionings if c.get("concat_mask") is not None), None)
    if denoise_mask is None or noise.ndim != 4:
        return None
    if denoise_mask.ndim == 4:  # newer cores hand out a mask that is prepared already, one for each channel
        denoise_mask = denoise_mask.mean(1, keepdim=True)
    return comfy.sampler_helpers.prepare_mask(denoise_mask, noise.shape, "cpu").float().mean(1)


def _by_uuid(conditionings: list | None, ours: Mapping[int, Mapping[str, Any]]) -> dict[Any, Mapping[str, Any]] | None:
    """The conditionings of one list by uuid, if the list holds any of ours; each list has its own uuids.

    ComfyUI gives an area of one branch to the others as a copy, tags and uuid included, of which only the tensors are
    the other branch's own (``create_cond_with_same_area_if_none``, comfy/samplers.py): what counts is whose they are.
    """
    found = {}
    for c in conditionings or ():
        if id(c) in ours:
            same = (other for other in conditionings or () if _tensors_of(other) == _tensors_of(c))
            found[c.get("uuid")] = next(same, c)
    return found or None


def _tensors_of(conditioning: Mapping[str, Any]) -> dict[str, int]:
    return {name: id(value) for name, value in conditioning.get("model_conds", {}).items()}


def _size(shape: torch.Size) -> str:
    return "x".join(str(side) for side in reversed(shape[-2:]))


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

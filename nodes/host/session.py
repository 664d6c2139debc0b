"""One sampling run: listen in on every attention call, file what it says, and leave nothing behind.

I2AM Capture only adds an OUTER_SAMPLE wrapper to a clone of the model. The rest is installed when a run
starts, on the options that ComfyUI made for this run alone (``CFGGuider.sample``, comfy/samplers.py), so
that it sits around whatever other nodes have patched in, and is undone when the run ends in any way.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import comfy.patcher_extension
import comfy.sampler_helpers
import torch
import torch.nn.functional as F
from comfy.model_management import InterruptProcessingException
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...i2am_core.attention import attribute, split_heads
from ...i2am_core.attribution import Attribution, Layer, Reference
from ...i2am_core.recorder import Recorder
from ...i2am_core.tokens import TokenGrid
from .capture import Capture
from .sources import SOURCES, CallSite, Chunk, Probe, Skip

log = logging.getLogger(__name__)

KEY = "i2am"
BRANCHES = ("positive", "negative")  # their positions are ComfyUI's numbers in cond_or_uncond
PAIR_MAPS = ("inpainting mask", "everywhere", "off")


def capture_with(model: ModelPatcher, capture: Capture) -> ModelPatcher:
    """A clone of the model whose every sampling run is captured."""

    def outer_sample(executor, noise, latent_image, sampler, sigmas, denoise_mask=None, *args, **kwargs):
        capture.started += 1
        run = _Run(capture, noise, sigmas, denoise_mask)
        with run.installed(executor.class_obj.model_options):
            output = executor(noise, latent_image, sampler, sigmas, denoise_mask, *args, **kwargs)
        capture.keep(run.finish(), output)
        return output

    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, outer_sample)
    return patched


def step_of(sigma: float, sigmas: Tensor) -> int:
    """The step whose sigma interval holds ``sigma``; schedules may fall or rise.

    Second-order samplers also ask between steps, and some a little outside the schedule.
    """
    schedule = sigmas if sigmas[0] < sigmas[-1] else -sigmas
    value = sigma if sigmas[0] < sigmas[-1] else -sigma
    tolerance = 1e-5 * max(1e-3, abs(value))
    return int(torch.searchsorted(schedule[1:-1].contiguous(), value + tolerance, right=True))


@dataclass(frozen=True)
class _ModelCall:
    """One call of the denoiser: its step, and the rows of the branch that is watched."""

    step: int
    chunks: tuple[Chunk, ...]


class _Run:
    """Everything that belongs to one call of a sampler."""

    def __init__(self, capture: Capture, noise: Tensor, sigmas: Tensor, denoise_mask: Tensor | None) -> None:
        self.settings = capture.settings
        self.sources = [s for s in SOURCES.values() if self.settings.mechanism in ("auto", s.name)]
        self.recorder = Recorder(sigmas, noise.shape[0], self.settings.budget_bytes)
        self.grid = TokenGrid(*noise.shape[-2:])
        self.items = noise.shape[0]
        self.denoise_mask = None
        if denoise_mask is not None and noise.ndim == 4:
            mask = comfy.sampler_helpers.prepare_mask(denoise_mask, noise.shape, "cpu")
            self.denoise_mask = mask.float().mean(1)  # [items, h, w]
        self.mechanisms: Counter[str] = Counter()
        self._conditionings: dict[Any, Mapping[str, Any]] = {}
        self._regions: dict[TokenGrid, Tensor | None] = {}
        self._local = threading.local()  # ComfyUI may run the chunks of one step in several threads
        self._lock = threading.Lock()

    @contextmanager
    def installed(self, model_options: dict[str, Any]) -> Iterator[None]:
        """Listen in for as long as the block runs."""
        original = model_options["transformer_options"]
        options = comfy.patcher_extension.copy_nested_dicts(original)
        options["optimized_attention_override"] = self._override(options.get("optimized_attention_override"))
        options.setdefault("patches", {}).setdefault("attn2_patch", []).append(self._expect_cross_attention)
        for kind, wrapper in (
            (WrappersMP.CALC_COND_BATCH, self._calc_cond_batch),
            (WrappersMP.APPLY_MODEL, self._apply_model),
        ):
            comfy.patcher_extension.add_wrapper_with_key(kind, KEY, wrapper, options)
        model_options["transformer_options"] = options
        try:
            yield
        finally:
            model_options["transformer_options"] = original

    def finish(self) -> Attribution:
        return self.recorder.freeze(
            grid=self.grid,
            denoise_mask=self.denoise_mask,
            mechanism=", ".join(self.mechanisms) or self.settings.mechanism,
            branch=self.settings.branch,
        )

    def _calc_cond_batch(self, executor, model, conds, *args, **kwargs):
        """Learn which conditioning each uuid means (``_calc_cond_batch``, comfy/samplers.py)."""
        with self._lock:
            for conditionings in conds:
                for conditioning in conditionings or ():
                    self._conditionings[conditioning.get("uuid")] = conditioning
        return executor(model, conds, *args, **kwargs)

    def _apply_model(self, executor, x, t, c_concat, c_crossattn, control, transformer_options, **kwargs):
        self._local.call = self._describe(x, transformer_options)
        self._local.expected = None
        try:
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
        finally:
            self._local.call = None

    def _describe(self, x: Tensor, options: Mapping[str, Any]) -> _ModelCall:
        branch = BRANCHES.index(self.settings.branch)
        kinds = options["cond_or_uncond"]
        rows = x.shape[0] // len(kinds)
        chunks = tuple(
            Chunk(slice(i * rows, (i + 1) * rows), self._conditionings.get(uuid, {}))
            for i, (kind, uuid) in enumerate(zip(kinds, options["uuids"], strict=True))
            if kind == branch
        )
        return _ModelCall(step_of(float(options["sigmas"].max()), self.recorder.sigmas), chunks)

    def _expect_cross_attention(self, n, context, value, options):
        """ComfyUI calls this right before a block's attn2, and only then; tensors pass unchanged."""
        self._local.expected = _block_of(options)
        return n, context, value

    def _override(self, previous: Callable | None) -> Callable:
        def attend(attention, *args, **kwargs):
            output = previous(attention, *args, **kwargs) if previous else attention(*args, **kwargs)
            call = getattr(self._local, "call", None)
            if call is not None and call.chunks:
                self._observe(call, args, kwargs)
            return output

        return attend

    def _observe(self, call: _ModelCall, args: tuple, kwargs: Mapping[str, Any]) -> None:
        """Whatever goes wrong here is a skip with a reason: the picture comes first."""
        options = kwargs.get("transformer_options") or {}
        block = _block_of(options)
        role = "attn2" if block is not None and block == self._local.expected else ""
        self._local.expected = None
        try:
            attention = _AttentionCall.read(args, kwargs)
            site = CallSite(
                layer=_layer_name(block),
                role=role,
                queries=attention.q.shape[2],
                keys=attention.k.shape[2],
                heads=attention.q.shape[1],
                grid=TokenGrid(*options["activations_shape"][2:]) if "activations_shape" in options else None,
            )
            for chunk in call.chunks:
                self._capture(call, attention, site, chunk)
        except InterruptProcessingException:
            raise
        except Exception as error:
            reason = f"I2AM could not read it ({type(error).__name__}: {error})"
            if reason not in self.recorder.skipped:
                log.warning("attention call in layer %s skipped: %s", _layer_name(block), reason, exc_info=True)
            self._skip(reason)

    def _capture(self, call: _ModelCall, attention: "_AttentionCall", site: CallSite, chunk: Chunk) -> None:
        source, probe = self._probe(site, chunk)
        if isinstance(probe, Skip):
            self._skip(probe.reason)
            return
        with self._lock:
            numbers = [self.recorder.reference(Reference(g.name, g.count, g.grid)) for g in probe.references]
            region = self._region(probe.layer.grid)
            pair_rows = self._pair_rows(numbers, probe.layer, region)
        marginals = attribute(
            attention.q[chunk.rows],
            attention.k[chunk.rows][:, :, probe.keys],
            probe.references,
            queries=probe.queries,
            scale=attention.scale,
            bias=None if attention.bias is None else attention.bias[chunk.rows][..., probe.keys],
            scope=region,
            pair_rows=pair_rows,
        )
        with self._lock:
            self.mechanisms[source] += 1
            self.recorder.calls += 1
            for number, maps in zip(numbers, marginals, strict=True):
                self.recorder.add(probe.layer, call.step, number, maps, pair_rows)

    def _probe(self, site: CallSite, chunk: Chunk) -> tuple[str, Probe | Skip]:
        """The first source that proves its layout, or the first reason why none does."""
        answers = [(source.name, source.probe(site, chunk)) for source in self.sources]
        return next((a for a in answers if isinstance(a[1], Probe)), answers[0])

    def _skip(self, reason: str) -> None:
        with self._lock:
            self.recorder.skipped[reason] += 1

    def _region(self, grid: TokenGrid) -> Tensor | None:
        """The inpainting mask on a layer's grid: ``[items, cells]``, True where the picture is painted."""
        if self.denoise_mask is None:
            return None
        if grid not in self._regions:
            cover = F.adaptive_avg_pool2d(self.denoise_mask, (grid.height, grid.width)).flatten(1)
            inside = cover > 0.5
            small = ~inside.any(1, keepdim=True)  # a mask smaller than half a cell still has a place
            self._regions[grid] = inside | (small & (cover > 0))
        return self._regions[grid]

    def _pair_rows(self, references: list[int], layer: Layer, region: Tensor | None) -> Tensor | None:
        if self.settings.pair_maps == "everywhere":
            rows = torch.arange(layer.grid.cells)
        elif self.settings.pair_maps == "inpainting mask" and region is not None:
            rows = region.any(0).nonzero().flatten()
        else:
            return None
        fits = [self.recorder.pairs_fit(reference, layer, len(rows)) for reference in references]
        return rows if all(fits) else None


@dataclass(frozen=True)
class _AttentionCall:
    """The arguments of ``optimized_attention`` in one layout: q, k ``[B, H, N, D]``, bias ``[B, H, N, K]``."""

    q: Tensor
    k: Tensor
    scale: float | None
    bias: Tensor | None

    @classmethod
    def read(cls, args: tuple, kwargs: Mapping[str, Any]) -> "_AttentionCall":
        """Backends name their parameters differently, but all take q, k, v, heads, mask in this order."""
        q, k = args[0], args[1]
        heads = args[3] if len(args) > 3 else kwargs["heads"]
        mask = args[4] if len(args) > 4 else kwargs.get("mask")
        batch = q.shape[0]
        q, k = split_heads(q, heads, batch), split_heads(k, heads, batch)
        bias = None
        if mask is not None:
            if mask.ndim == 2 and mask.shape[0] not in (1, q.shape[2]):
                raise ValueError(f"a mask of shape {tuple(mask.shape)} for {q.shape[2]} queries")
            bias = mask[None, None] if mask.ndim == 2 else mask[:, None] if mask.ndim == 3 else mask
            bias = bias.expand(batch, heads, q.shape[2], k.shape[2])
        return cls(q, k, kwargs.get("scale"), bias)


def _block_of(options: Mapping[str, Any]) -> tuple | None:
    if "block" not in options:
        return None
    return (*options["block"], options.get("block_index", 0))


def _layer_name(block: tuple | None) -> str:
    return f"{block[0]} {block[1]}.{block[2]}" if block else "unnamed"

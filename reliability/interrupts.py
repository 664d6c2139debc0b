"""Interrupts and exceptions at random moments of a run: is anything left, and is the next picture the same?

    .host/venv/bin/python -m reliability.interrupts [--moments 90] [--seed 0]

A moment is one call of an attention, of a sampler's callback, of another pack's patch, of a wrapper around the
denoiser, or of a block, in a run that I2AM Capture watches and I2AM Steer steers. After each, all that ComfyUI and
PyTorch keep of the model has to be as it was before, and a new run has to give the same bits. The exit code is 1 where
it is not.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from reliability import comfyui_here  # noqa: F401  (before what it makes importable)

import comfy.ldm.modules.attention  # isort: skip
import comfy.utils  # isort: skip
import latent_preview  # isort: skip
import tiny_graphs  # isort: skip
import torch  # isort: skip
from comfy.model_management import InterruptProcessingException  # isort: skip
from comfy.model_patcher import ModelPatcher  # isort: skip
from comfy.patcher_extension import WrappersMP  # isort: skip

from i2am_pack.nodes.comfy.captured import capture_with  # isort: skip
from i2am_pack.nodes.comfy.handle import Capture, Settings  # isort: skip
from i2am_pack.nodes.comfy.steer_choice import Settings as SteerSettings  # isort: skip
from i2am_pack.nodes.comfy.steered import steer_with  # isort: skip

GRAPHS: dict[str, Callable[[], tiny_graphs.Graph]] = {
    "Flux Kontext": tiny_graphs.flux_kontext,
    "Wan I2V": tiny_graphs.wan_i2v,
    "SD1.5, reference-only": tiny_graphs.sd15_reference_only,
}
STEPS = 3
PATCHED = ("model_options", "wrappers", "callbacks", "patches", "object_patches", "hook_backup", "injections")


class Broken(Exception):
    """What another pack raises."""


ERRORS: tuple[type[BaseException], ...] = (
    InterruptProcessingException, Broken, RuntimeError, torch.OutOfMemoryError, KeyboardInterrupt,
)  # fmt: skip


@dataclass
class Moments:
    """Counts what happens in a run, and raises ``error`` at the call number ``at`` of one ``place``."""

    place: str = ""
    at: int = -1
    error: type[BaseException] = Broken
    counts: Counter[str] = field(default_factory=Counter)

    def pass_by(self, place: str) -> None:
        number = self.counts[place]
        self.counts[place] += 1
        if (place, number) == (self.place, self.at):
            raise self.error("at a random moment")


@dataclass
class Watched:
    """A graph whose model is captured and steered, around patches of another pack that pass by ``moments``."""

    graph: tiny_graphs.Graph
    moments: Moments = field(default_factory=Moments)

    def __post_init__(self) -> None:
        self.patched = patched_by_others(self.graph.model, lambda place: self.moments.pass_by(place))
        self.capture = Capture(Settings("auto", "positive", "everywhere", 2**26))
        self.model = steer_with(capture_with(self.patched, self.capture), SteerSettings(strength=0.5))
        self.picture = self.run(Moments())
        self.calls = self.moments.counts

    def run(self, moments: Moments) -> torch.Tensor:
        """The picture of a run, or the error of its moment."""
        self.moments = moments
        with callbacks_pass_by(moments):
            return self.graph.sample(self.model, STEPS)["samples"]

    def state(self) -> Any:
        """What is patched anywhere: of the models on the line, and of the modules of the denoiser."""
        return [state_of(model) for model in (self.graph.model, self.patched, self.model)]


def patched_by_others(model: ModelPatcher, pass_by: Callable[[str], None]) -> ModelPatcher:
    """A clone of a model with what other packs put on one: an override, a patch, a wrapper, a hook on a block."""
    model = model.clone()
    options = model.model_options["transformer_options"]

    def override(attention: Callable, *args: Any, **kwargs: Any) -> torch.Tensor:
        pass_by("attention")
        output = attention(*args, **kwargs)
        pass_by("after attention")
        return output

    def patch(*given: Any) -> Any:
        pass_by("patch")  # of a U-Net's attn2, from what it is made; of Wan's, in newer cores, what it has made
        return given[0]["x"] if len(given) == 1 else given[:3]

    def around(executor: Callable, *args: Any, **kwargs: Any) -> Any:
        pass_by("denoiser")
        output = executor(*args, **kwargs)
        pass_by("after the denoiser")
        return output

    def replacement(args: Mapping[str, Any], extra: Mapping[str, Callable]) -> Any:
        pass_by("block")
        output = extra["original_block"](args)
        pass_by("after a block")
        return output

    options["optimized_attention_override"] = override
    model.set_model_attn2_patch(patch)
    for block in ("double_block", "single_block"):
        model.set_model_patch_replace(replacement, "dit", block, 0)
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "another pack", around)
    return model


@contextmanager
def callbacks_pass_by(moments: Moments) -> Iterator[None]:
    """The sampler's callback, which ComfyUI makes for a preview."""
    original = latent_preview.prepare_callback

    def prepare_callback(*args: Any, **kwargs: Any) -> Callable:
        callback = original(*args, **kwargs)

        def around(*called: Any) -> None:
            moments.pass_by("callback")
            callback(*called)

        return around

    latent_preview.prepare_callback = prepare_callback
    try:
        yield
    finally:
        latent_preview.prepare_callback = original


def state_of(model: ModelPatcher) -> list[Any]:
    """All that may be patched of a model, in a form that can be compared."""
    denoiser = model.model.diffusion_model
    modules = [
        (name, len(x._forward_hooks), len(x._forward_pre_hooks), "forward" in vars(x), type(x), x.training)
        for name, x in denoiser.named_modules()
    ]
    options = [getattr(model, name) for name in PATCHED]
    functions = {name: getattr(comfy.ldm.modules.attention, name) for name in dir(comfy.ldm.modules.attention)}
    return [comparable(options), modules, {name: id(x) for name, x in functions.items() if name != "__builtins__"}]


def comparable(value: Any) -> Any:
    """Nested dictionaries and lists by their content, anything else by its identity."""
    if isinstance(value, Mapping):
        return {str(key): comparable(x) for key, x in value.items()}
    if isinstance(value, list | tuple | set):
        return [comparable(x) for x in value]
    return value if isinstance(value, str | int | float | None) else id(value)


def after(watched: Watched, moment: Moments) -> list[str]:
    """What is wrong after an error at a moment: nothing, if all is well."""
    before, runs = watched.state(), len(watched.capture._runs)
    try:
        watched.run(moment)
        return ["the error did not get out"]
    except ERRORS as error:
        wrong = [] if isinstance(error, moment.error) else [f"{type(error).__name__} got out"]
    wrong += [] if watched.state() == before else ["something is still patched"]
    wrong += [] if len(watched.capture._runs) == runs else ["a run that did not end was kept"]
    wrong += [] if torch.equal(watched.run(Moments()), watched.picture) else ["the next picture is another"]
    wrong += [] if watched.state() == before else ["something is patched after the next run"]
    return wrong


def moments(calls: Mapping[str, int], order: random.Random) -> Iterator[Moments]:
    """Moments at random, each place and error in turn."""
    while True:
        for place, count in calls.items():
            yield Moments(place, order.randrange(count), order.choice(ERRORS))


def trial(name: str, count: int, seed: int) -> Iterator[tuple[Moments, list[str]]]:
    """``count`` errors in runs of one graph, and what is wrong after each."""
    watched = Watched(GRAPHS[name]())
    every = moments(watched.calls, random.Random(f"{name} {seed}"))
    for _ in range(count):
        moment = next(every)
        yield moment, after(watched, moment)
    gc.collect()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=90, help="in all, in equal parts of each graph")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    comfy.utils.PROGRESS_BAR_ENABLED = False
    start, wrong, places = time.monotonic(), 0, Counter[str]()
    with torch.inference_mode():
        for name in GRAPHS:
            for moment, faults in trial(name, args.moments // len(GRAPHS), args.seed):
                places[moment.place] += 1
                wrong += bool(faults)
                if faults:
                    print(f"{name}, {moment.error.__name__} at {moment.place} {moment.at}: {'; '.join(faults)}")
    total = sum(places.values())
    print(", ".join(f"{count} x {place}" for place, count in places.items()))
    print(f"{total - wrong} of {total} left nothing behind, in {time.monotonic() - start:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

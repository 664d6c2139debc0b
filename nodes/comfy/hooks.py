"""What is put into ComfyUI's options for one run of a sampler, and taken away when it ends.

All of it sits in the options that ComfyUI made for this run alone (``CFGGuider.sample``, comfy/samplers.py). Installed
when the run starts, it is around whatever other nodes have patched in.

ComfyUI *announces* the attentions of a U-Net's block: it calls the functions in ``patches["attn1_patch"]`` and
``patches["attn2_patch"]`` right before it runs attn1 and attn2. Nothing else says which of the two a call is of.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import comfy.patcher_extension
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .attention_call import Arguments
from .attention_route import OVERRIDE, AttentionRoute, prepare, tensors_of
from .eager import eager
from .engine import Engine
from .model_calls import ModelCalls
from .proxy import Proxy
from .steered_kernel import kernel_of

KEY = "i2am"
LOOKING = "i2am look"  # the key of wrappers that only look
DIT = "dit"  # the kind of ``patches_replace`` whose functions take the place of whole blocks

AttentionInputs = tuple[Tensor, Any, Any]
"""What the query, the keys and the values of a U-Net's attention are made from."""


@contextmanager
def installed(guider: Any, engine: Engine, calls: ModelCalls) -> Iterator[None]:
    """Hand every attention call of the run to the engine, while the body of the ``with`` runs."""
    model_options = guider.model_options
    original = model_options["transformer_options"]
    model_options["transformer_options"] = hooked(original, guider.model_patcher.model.diffusion_model, engine, calls)
    try:
        yield
    finally:
        model_options["transformer_options"] = original
        engine.unhook()


def hooked(options: dict[str, Any], denoiser: Any, engine: Engine, calls: ModelCalls) -> dict[str, Any]:
    """A copy of ``transformer_options`` in which every attention call goes to the engine: ``Engine.unhook`` ends it."""
    options = _copy(options)
    prepare()
    options[OVERRIDE] = _Override(engine, options.get(OVERRIDE))
    if isinstance(denoiser, UNetModel):  # elsewhere these names mean other things
        _watch_announcements(engine, options.setdefault("patches", {}))
    _hook_replacements(engine, options.get("patches_replace", {}).get(DIT, {}))
    for kind, wrapper in (
        (WrappersMP.CALC_COND_BATCH, _conditionings(calls)),
        (WrappersMP.APPLY_MODEL, _model_call(engine, calls)),
    ):
        comfy.patcher_extension.add_wrapper_with_key(kind, KEY if engine.acts else LOOKING, wrapper, options)
    for mechanism in engine.mechanisms:
        mechanism.install(options, engine.begin)
    return options


def without_looking(options: dict[str, Any]) -> dict[str, Any]:
    """A copy of ``transformer_options`` for a call that those that look are not to see; those that act do."""
    options = _copy(options)
    for by_key in options.get("wrappers", {}).values():
        by_key.pop(LOOKING, None)
    return options


def _copy(options: dict[str, Any]) -> dict[str, Any]:
    copy: dict[str, Any] = comfy.patcher_extension.copy_nested_dicts(options)
    return copy


class _Override:
    """Of ComfyUI's attention, for one run: hands every call to the engine.

    Where ``previous``, which was there before, is one of ours, its engine is in this one's kernel, and gets the call as
    this one's consumers have steered it.
    """

    def __init__(self, engine: Engine, previous: Callable | None) -> None:
        self.engine = engine
        self.inner = previous if isinstance(previous, _Override) else None
        self.of_pack: Callable | None = self.inner.of_pack if self.inner else previous
        self._call = eager(self._attend)

    def __deepcopy__(self, memo: dict) -> "_Override":
        """Options are copied deeply by ModelPatcher.clone(); a copy of the engine would be out of the run's sight."""
        return self

    def __call__(self, attention: Callable, *args: Any, **kwargs: Any) -> Tensor:
        output: Tensor = self._call(attention, args, kwargs)
        return output

    def container_function(self, *args: Any, **kwargs: Any) -> Tensor:
        """From ComfyUI 0.33: a call whose queries, keys and values are in containers, which comes without a function.

        Without this attribute, ComfyUI would empty the containers for us, and not go the way that it has for them.
        """
        output: Tensor = self._call(None, args, kwargs)
        return output

    def _attend(self, attention: Callable | None, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
        route = AttentionRoute.of(attention, args, self.of_pack)
        tensors = tensors_of(args)
        if tensors is None:  # in a form that we do not know: the picture comes first
            return replace(route, container=None)(*args, **kwargs)
        return self.attend(Arguments(kernel_of(route), tensors, kwargs, route.kernel, self.of_pack))

    def attend(self, arguments: Arguments) -> Tensor:
        """Make a call, in this engine and in those inside it."""
        inner = self.inner
        if inner is None:
            return self.engine.attend(arguments)

        def kernel(of_outer: Arguments) -> Tensor:
            return inner.attend(of_outer._replace(kernel=arguments.kernel))

        return self.engine.attend(arguments._replace(kernel=kernel))


def _conditionings(calls: ModelCalls) -> Callable:
    def calc_cond_batch(
        executor: Callable,
        model: Any,
        conds: list,
        x_in: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        with calls.evaluating(model, conds, x_in, timestep, model_options):
            return executor(model, conds, x_in, timestep, model_options, *args, **kwargs)

    return calc_cond_batch


def _model_call(engine: Engine, calls: ModelCalls) -> Callable:
    # callers.py looks for this function by its name: what is further out on the stack makes no attention call.
    def apply_model(
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Any,
        c_crossattn: Any,
        control: Any,
        transformer_options: dict[str, Any],
        **kwargs: Any,
    ) -> Any:
        conditions = {"c_concat": c_concat, **kwargs}
        call = calls.read(executor.class_obj, x, c_crossattn, transformer_options, conditions)
        with engine.watching(call), nullcontext() if call else _unwatched(transformer_options, engine):
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)

    return apply_model


@contextmanager
def _unwatched(options: dict[str, Any], engine: Engine) -> Iterator[None]:
    """While a call of the denoiser runs that is not watched: its attention goes past this engine.

    In the same dictionary: in some cores what is written into it further in is read further out.
    """
    override = options.get(OVERRIDE)
    if not isinstance(override, _Override) or override.engine is not engine:
        yield
        return
    del options[OVERRIDE]
    if (rest := override.inner or override.of_pack) is not None:
        options[OVERRIDE] = rest
    try:
        yield
    finally:
        options[OVERRIDE] = override


def _watch_announcements(engine: Engine, patches: dict[str, list]) -> None:
    """Tell the forward pass which attention comes; all tensors pass unchanged.

    Of each kind there is a patch before those of other packs, and one behind them: where what is attended from or to is
    another one behind, a pack has changed it.
    Where only the value of attn2 is another one, it has changed what attention gives of it.
    """

    def first(n: Tensor, context: Any, value: Any, options: Mapping[str, Any]) -> AttentionInputs:
        if engine.forward is not None:
            engine.forward.unpatched = (n, context, value)
        return n, context, value

    def last_before(role: str) -> Callable:
        def last(n: Tensor, context: Any, value: Any, options: Mapping[str, Any]) -> AttentionInputs:
            if (forward := engine.forward) is not None:
                first_n, first_context, first_value = forward.unpatched
                with engine.following():
                    changed = context is not first_context
                    if role == "attn1":
                        changed |= n is not first_n or value is not first_value
                    forward.announce(role, options, changed, _changed_values(role, first_value, value))
            return n, context, value

        return eager(last)

    for role in ("attn1", "attn2"):
        kind = f"{role}_patch"
        patches[kind] = [eager(first), *patches.get(kind, ()), last_before(role)]


def _changed_values(role: str, before: Any, behind: Any) -> tuple[Tensor, Tensor] | None:
    """What values are made from, before the patches of packs and behind, where it is another one."""
    if role != "attn2" or behind is before:
        return None
    return (before, behind) if isinstance(before, Tensor) and isinstance(behind, Tensor) else None


def _hook_replacements(engine: Engine, replacements: dict[Any, Callable]) -> None:
    for key, function in replacements.items():
        replacements[key] = _HookedReplacement(function, engine, key)


class _HookedReplacement(Proxy):
    """Around a pack's function that takes the place of a block."""

    def __init__(self, original: Callable, engine: Engine, key: Any) -> None:
        super().__init__(original)
        self._engine, self._key = engine, key

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        forward = self._engine.forward
        block = None if forward is None else forward.blocks.replaced.get((DIT, self._key))
        if forward is None or block is None:
            return self.original(*args, **kwargs)
        block_run, failed = None, True
        with self._engine.following():
            block_run = forward.begin_replacement(block, self.original)
        try:
            output = self.original(*args, **kwargs)
            failed = False
        finally:
            with self._engine.following():
                if block_run is not None:
                    forward.end_replacement(block_run, failed)
        return output

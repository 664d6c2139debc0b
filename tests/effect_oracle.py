"""Effects by hand: the run's own latents, evaluated with and without columns, with attention in 64 bits.

It is independent of the pack: it wraps ComfyUI's ``calc_cond_batch`` directly, is told by the test which columns are
taken away for which rows, and imports nothing of ours.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from by_hand import ByHand
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from steered_oracle import Run
from torch import Tensor

Steers = Callable[[int, int], Sequence[ByHand]]  # of a call of so many queries and keys; none: it is ComfyUI's


@dataclass
class Counterfactuals:
    """Predictions of each evaluation of a run ``[items, C, (frames,) h, w]``: with everything, and without each thing.

    ``removals`` say what is taken away; in ``everything`` nothing is, of the same calls. ``branch`` is the place of the
    conditionings in ComfyUI's list. ``at`` are the latents to evaluate, by step: by default the run's own.
    """

    everything: Steers
    removals: Mapping[Hashable, Steers] = field(default_factory=dict)
    branch: int = 0
    at: Sequence[Tensor] = ()
    with_: list[Tensor] = field(default_factory=list)
    without: list[dict[Hashable, Tensor]] = field(default_factory=list)
    noisy: list[Tensor] = field(default_factory=list)  # the latents that were evaluated
    denoised: list[Tensor] = field(default_factory=list)  # what the run itself got, rounded as it is
    _present: Steers = field(default=lambda queries, keys: ())

    def on(self, model: ModelPatcher) -> ModelPatcher:
        run = Run(lambda queries, keys: self._present(queries, keys))
        model = run.on(model)
        model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "by hand", self._wrapper())
        return model

    def _wrapper(self) -> Callable:
        def wrapper(executor: Callable, model: Any, conds: list, x: Tensor, *arguments: Any) -> list[Tensor]:
            output = executor(model, conds, x, *arguments)
            here = self.at[len(self.noisy)] if self.at else x
            alone = [own if n == self.branch else None for n, own in enumerate(conds)]

            def evaluated(steers: Steers) -> Tensor:
                self._present = steers
                try:
                    return executor(model, alone, here, *arguments)[self.branch].clone()
                finally:
                    self._present = lambda queries, keys: ()

            self.denoised.append(output[self.branch].clone())
            self.with_.append(evaluated(self.everything))
            self.without.append({name: evaluated(steers) for name, steers in self.removals.items()})
            self.noisy.append(x.clone())
            return output

        return wrapper

    def effect(self, step: int, name: Hashable, compared_with: Hashable = None) -> Tensor:
        """The root mean square over channels of what a removal changes, against another one or everything."""
        other = self.with_[step] if compared_with is None else self.without[step][compared_with]
        return rms(other, self.without[step][name])


def rms(one: Tensor, other: Tensor) -> Tensor:
    """The root mean square over channels of what two predictions differ by: ``[items, cells]`` in 64 bits."""
    return (one.double() - other.double()).square().mean(1).sqrt().flatten(1)

"""What ComfyUI makes for the model of a conditioning, with a part of it and without: whether the model reads the part.

``encode_model_conds`` (comfy/samplers.py) makes it with ``BaseModel.extra_conds`` when a run starts. Here it is made
once more, with the key and without it. Where the two are equal, the model ignores the key.
"""

from collections.abc import Mapping
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from .callers import function_of
from .conditioning_keys import COMPANIONS
from .ended_run import Conditioning, EndedRun
from .evaluation import forked
from .other_conditioning import are_same
from .remembered import put_back

CHANGES = "what the model gets is another one each time it is made"


class ModelConditions:
    """What ComfyUI makes for the model of one conditioning, with and without a part of it.

    It is made on the CPU, so that nobody waits for the model's ``device``; there where that raises, as of a model that
    has weights in it.
    """

    def __init__(self, run: EndedRun, c: Conditioning, device: torch.device) -> None:
        self._run, self._c, self._devices = run, c, list(dict.fromkeys((torch.device("cpu"), device)))
        self._whole: list[dict[str, Any]] = []

    def changed(self, key: str, value: Any = None) -> frozenset[str]:
        """Names of what the model gets otherwise where ``key`` is ``value``; where that is None, it is not there.

        Raises ValueError where it is another one in every try, and whatever ComfyUI's own code raises.
        """
        others = {name: x for name, x in self._c.items() if name != key}
        whole, again, other = self._made_with(others if value is None else others | {key: value})
        names = _different(whole, other)
        if names & _different(whole, again):
            raise ValueError(CHANGES)
        return names - COMPANIONS or names

    def beyond(self) -> list[str]:
        """Names of what the model got in the run that ComfyUI does not make: a pack has put it there itself."""
        whole, *_ = self._made_with()
        in_run = self._c.get("model_conds", {})
        unknown = [name for name in in_run if name not in whole and name not in COMPANIONS]
        return [name for name in unknown if isinstance(getattr(in_run[name], "cond", None), Tensor)]

    def _made_with(self, *others: Conditioning) -> list[dict[str, Any]]:
        """The conditioning as it is, made twice, to know what differs by itself; and others. All on one device."""
        try:
            if not self._whole:
                self._whole = [self._made(self._c), self._made(self._c)]
            return [*self._whole, *map(self._made, others)]
        except Exception:
            if len(self._devices) == 1:
                raise
            self._whole = []
            self._devices.pop(0)
            return self._made_with(*others)

    def _made(self, c: Conditioning) -> dict[str, Any]:
        """On copies: some models write into what they are given. Random numbers of the run stay as they are."""
        run, make = self._run, self._run.model.extra_conds
        of_pack = [] if function_of(make).module.startswith("comfy.") else [make]  # which may remember each call
        device = self._devices[0]
        noise, latent, mask = run.sampled(device)
        copied = [{name: _copied(x) for name, x in c.items() if name not in ("control", "hooks")} | {"model_conds": {}}]
        with torch.no_grad(), forked(device), put_back(of_pack, ()):
            (made,) = comfy.samplers.encode_model_conds(
                make, copied, noise, device, run.branch, latent_image=latent,
                denoise_mask=mask, seed=0, latent_shapes=[noise.shape],
            )  # fmt: skip
        result: dict[str, Any] = made["model_conds"]
        return result


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(x) for key, x in value.items()}
    return type(value)(map(_copied, value)) if type(value) in (list, tuple) else value


def _different(one: Mapping[str, Any], other: Mapping[str, Any]) -> frozenset[str]:
    names = one.keys() | other.keys()
    return frozenset(n for n in names if n not in one or n not in other or not are_same(one[n], other[n]))

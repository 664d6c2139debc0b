"""Which step of a schedule a call belongs to: by its sigma, never by counting calls."""

import torch
from torch import Tensor


def step_of(sigma: float, sigmas: Tensor, last: int = 0) -> int:
    """The step whose sigma interval holds ``sigma``, its start included.

    Second-order samplers also evaluate between steps, and some a little outside the schedule: those get the
    nearest step. Schedules may fall, rise or jump back up (restarts); where several steps hold the sigma,
    it is the one nearest to ``last``, the step of the call before, going forward.
    """
    start, end = sigmas[:-1], sigmas[1:]
    if len(start) == 0:
        return 0
    tolerance = 1e-5 * max(1e-3, abs(sigma))
    low, high = torch.minimum(start, end), torch.maximum(start, end)
    inside = (sigma >= low - tolerance) & (sigma <= high + tolerance) & ((sigma - end).abs() > tolerance)
    candidates = inside.nonzero().flatten().tolist()
    if not candidates:
        return int((torch.stack([start, end]) - sigma).abs().amin(0).argmin())
    return min(candidates, key=lambda step: (step < last, abs(step - last)))

"""A mechanism under test: its graph captured by the pack, and measured by the oracle, which share no code."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from oracle import Call, Oracle
from tiny_graphs import Graph
from torch import Tensor

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.i2am_core.attention.steering import Change
from i2am_pack.i2am_core.attribution import Attribution
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.comfy.attention_call import AttentionCall
from i2am_pack.nodes.comfy.captured import capture_with
from i2am_pack.nodes.comfy.consumer_watch import ConsumerWatch
from i2am_pack.nodes.comfy.consumers import Consumer, LocatedIn
from i2am_pack.nodes.comfy.handle import Capture, Settings
from i2am_pack.nodes.comfy.run import watched
from i2am_pack.nodes.steer import I2AMSteer

Cells = Sequence[int]


def capture(
    graph: Graph, mechanism: str = "auto", pair_maps: str = "off", branch: str = "positive", **sampling: Any
) -> Attribution:
    """The attribution of a run, which must leave the latent exactly as it is without capture."""
    model, handle = I2AMCapture.execute(graph.model, mechanism, branch, pair_maps, 512).args
    plain, watched = graph.sample(**sampling), graph.sample(model, **sampling)
    assert torch.equal(plain["samples"], watched["samples"])
    attribution = I2AMCollect.execute(handle, watched).args[0]
    assert_all_calls_are_accounted_for(graph, attribution, branch, **sampling)
    return attribution


def capture_beside(
    graph: Graph, mechanism: str = "auto", branch: str = "positive", **sampling: Any
) -> tuple[Attribution, str]:
    """The same beside a pack that makes calls of its own, with the summary: each call that was skipped has a reason."""
    model, handle = I2AMCapture.execute(graph.model, mechanism, branch, "off", 512).args
    plain, latent = graph.sample(**sampling), graph.sample(model, **sampling)
    assert torch.equal(plain["samples"], latent["samples"])
    attribution, _, summary = I2AMCollect.execute(handle, latent).args
    assert all(reason and "could not read" not in reason for reason in attribution.skipped)
    return attribution, summary


def sampled(
    graph: Graph, *consumers: Consumer, mechanism: str = "auto", branch: str = "positive", **sampling: Any
) -> tuple[Tensor, Attribution]:
    """The latent, and the attribution, of a run that these consumers are notified of beside Capture's own."""
    handle = Capture(Settings(mechanism, branch, "off", 2**29))
    model = capture_with(graph.model, handle)
    if consumers:
        acts = any(consumer.acts for consumer in consumers)
        model = watched(model, ConsumerWatch(lambda: consumers, mechanism, branch, acts))
    latent = graph.sample(model, **sampling)["samples"]
    return latent, handle.find(latent)


def steered(
    model: Any, strength: float, by: str = "attention", reference: int = -1, through: str = "everything",
    branch: str = "both", steps: str = "all", layers: str = "all", heads: str = "all", mechanism: str = "auto",
    **regions: Tensor,
) -> Any:  # fmt: skip
    """The model behind an I2AM Steer, whose widgets are as in the graph unless they are given."""
    settings = (strength, by, reference, through, branch, steps, layers, heads, mechanism)
    return I2AMSteer.execute(model, *settings, **regions).args[0]


def with_strength_of(
    call: AttentionCall, located: Sequence[LocatedIn], strength: float, tokens: Any = slice(None)
) -> AttentionCall:
    """The call in which these tokens of every reference count so many times, for all rows of the watched branch."""
    return call.changed(
        *(
            Change(one.chunk.rows, match.columns(group.index, call.shape[3])[tokens], strength)
            for one in located
            for match in one.by_mechanism.values()
            for group in match.references
        )
    )


def assert_all_calls_are_accounted_for(graph: Graph, attribution: Attribution, branch: str, **sampling: Any) -> None:
    """Every attention call on rows of the branch, for each conditioning, is captured or skipped for a reason."""
    oracle = Oracle()
    graph.sample(oracle.on(graph.model), **sampling)
    number = ("positive", "negative").index(branch)
    calls = sum(oracle.forwards[call.forward].cond_or_uncond.count(number) for call in oracle.calls)
    assert attribution.captured_calls + sum(attribution.skipped.values()) == calls
    assert all(reason and "could not read" not in reason for reason in attribution.skipped)


@dataclass
class Measured:
    """Weights of one attention call on the watched rows: ``[items, heads, N, K]``, and its logits, in 64 bits."""

    weights: Tensor
    logits: Tensor


def measure(
    graph: Graph, picture: Cells, chosen: Callable[[Call], bool] | None = None, branch: int = 0, **sampling: Any
) -> list[list[Measured]]:
    """What the oracle has of the ``picture`` rows, for each forward of the branch and each call that is ``chosen``.

    By default those with the most columns of the forward.
    """
    oracle = Oracle()
    graph.sample(oracle.on(graph.model), **sampling)
    steps = []
    for number, forward in enumerate(oracle.forwards):
        if branch not in forward.cond_or_uncond:
            continue
        items = forward.x[0] // len(forward.cond_or_uncond)
        first = forward.cond_or_uncond.index(branch) * items
        rows = range(first, first + items)
        calls = oracle.of(number)
        most = max(call.k.shape[2] for call in calls)
        wanted = chosen or (lambda call, most=most: call.k.shape[2] == most)
        steps.append([_measured(call, rows, picture) for call in calls if wanted(call)])
    return steps


def _measured(call: Call, rows: range, picture: Cells) -> Measured:
    def stacked(values: Callable[[Call, int, int], Tensor]) -> Tensor:
        return torch.stack([torch.stack([values(call, r, h)[list(picture)] for h in range(call.heads)]) for r in rows])

    return Measured(stacked(Oracle.weights), stacked(Oracle.logits))


def assert_maps_equal(
    attribution: Attribution,
    steps: list[list[Measured]],
    reference: int,
    columns: Cells,
    gain: Tensor | None = None,
    atol: float = 2e-5,
    grid: TokenGrid | None = None,
) -> None:
    """All maps of a reference in all its layers, steps, items and heads, against the weights on its ``columns``.

    ``gain`` broadcasts to ``[items, N]``; positions where it is 0 do not count in the paper's maps. ``grid`` chooses
    the layers whose picture has it.
    """
    read = (n for n in range(len(attribution.layers)) if attribution.layer_maps(reference, n))
    layers = [n for n in read if grid in (None, attribution.layers[n].grid)]
    assert len(steps) == attribution.steps == len(attribution.bins)
    for step, calls in enumerate(steps):
        assert len(calls) == len(layers)
        for number, measured in zip(layers, calls, strict=True):
            entry = attribution.layer_maps(reference, number)
            for name, values in expected_maps(measured, columns, gain).items():
                got = entry.maps[name][:, step].double()
                torch.testing.assert_close(got, values, atol=atol, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


def expected_maps(measured: Measured, columns: Cells, gain: Tensor | None = None) -> dict[str, Tensor]:
    """The four maps by their definitions (README, *What a map is*): means of softmaxes over columns, and positions."""
    items, heads, positions, _ = measured.weights.shape
    gain = torch.ones(()) if gain is None else gain
    gain = gain.double().expand(items, positions)[:, None, :, None]
    counted = (gain != 0).expand(items, heads, positions, 1)
    share = measured.weights[..., list(columns)] * gain
    logits = measured.logits[..., list(columns)].masked_fill(~counted, -torch.inf)
    by_row = logits.softmax(-1).nan_to_num(0)
    by_column = logits.softmax(-2).nan_to_num(0)
    return {
        "r2g_share": share.sum(-1),
        "g2r_share": share.mean(-2),
        "g2r_paper": by_row.sum(-2) / counted.sum(-2).clamp(min=1),
        "r2g_paper": by_column.mean(-1),
    }

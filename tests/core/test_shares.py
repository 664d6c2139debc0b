"""Whose part of the attention is how large: against a softmax over everything, in 64 bits."""

import dataclasses

import pytest
import torch
from taken_apart import small

from i2am_core import (
    AttributionError,
    Layer,
    Logits,
    Place,
    Recorder,
    TokenGrid,
    Verdict,
    load,
    of_items,
    save,
    share_of,
)
from i2am_core.attention import marginals
from i2am_core.recording.shares import Shares

LAYER, OTHER = Layer("a", TokenGrid(2, 2), 2), Layer("b", TokenGrid(2, 2), 2)


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("chunk_bytes", [1, 2**20])
@pytest.mark.parametrize("biased", [False, True])
def test_a_share_is_a_part_of_the_softmax(monkeypatch, biased, chunk_bytes):
    monkeypatch.setattr(marginals, "CHUNK_BYTES", chunk_bytes)
    q, k = drawn(2, 3, 7, 4), drawn(2, 3, 9, 4) * 3
    bias = drawn(2, 1, 7, 9) if biased else None
    logits = q.double() @ k.double().transpose(-1, -2) * 0.5 + (0 if bias is None else bias.double())
    total = logits.logsumexp(-1).float()
    columns = torch.tensor([1, 4, 8])
    share = share_of(q, k, columns, total[:, :, 2:6], Logits(0.5, bias), slice(2, 6))
    torch.testing.assert_close(
        share.double(), logits.softmax(-1)[:, :, 2:6, columns].sum(-1).mean(1), rtol=1e-5, atol=1e-6
    )


def test_a_row_that_may_look_at_nothing_has_no_share():
    q, k = drawn(1, 1, 2, 4), drawn(1, 1, 3, 4)
    total = torch.tensor([[[-torch.inf, 0.0]]])
    bias = torch.tensor([[[[-torch.inf] * 3, [0.0] * 3]]])
    share = share_of(q, k, slice(0, 2), total, Logits(None, bias))
    assert share[0, 0] == 0 and share[0, 1] > 0


def test_calls_of_a_step_are_averaged_and_what_does_not_hold_does_not_count():
    shares = Shares()
    shares.add(LAYER, 0, {"text": torch.tensor([[0.2, 0.4]])}, True)
    shares.add(LAYER, 0, {"text": torch.tensor([[0.4, 0.4]])}, torch.tensor(True))
    shares.add(LAYER, 0, {"text": torch.tensor([[0.9, 0.9]])}, torch.tensor(False))
    shares.add(OTHER, 1, {"references": torch.tensor([[0.5, 0.25]])}, True)
    frozen = shares.freeze([OTHER, LAYER], 2)
    torch.testing.assert_close(frozen["text"][0, 0, 1], torch.tensor([0.3, 0.4]))
    assert frozen["text"].isnan().sum() == 6 and frozen["text"].shape == (1, 2, 2, 2)
    torch.testing.assert_close(frozen["references"][0, 1, 0], torch.tensor([0.5, 0.25]))
    shares.forget(["a"])
    assert set(shares.freeze([OTHER, LAYER], 2)) == {"references"}
    assert shares.freeze([LAYER], 2) == {}


def test_a_recorder_adds_none_of_what_fails_or_is_retracted():
    recorder = Recorder(torch.linspace(1, 0, 3), 1, 2**20)
    recorder.retract(["b"], "a reason")
    recorder.shares(Place(OTHER, 0, 0), {"text": torch.ones(1, 2)})
    recorder.shares(Place(LAYER, 0, 0), {"text": torch.ones(1, 2)}, [Verdict(torch.tensor(False), "no")])
    assert recorder.freeze(grid=TokenGrid(2, 2)).shares == {}


def with_shares():
    run = small()
    shape = run.items, run.steps, len(run.layers), 2
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0)) / 2
    values[0, 0, 0] = torch.nan
    return dataclasses.replace(run, shares={"references": values, "text": values / 2})


def test_a_file_and_a_part_of_a_batch_have_them(tmp_path):
    run = with_shares()
    save(run, tmp_path / "a.i2am.safetensors")
    again = load(tmp_path / "a.i2am.safetensors")
    assert set(again.shares) == {"references", "text"}
    for owner, values in run.shares.items():
        torch.testing.assert_close(again.shares[owner], values, equal_nan=True, rtol=0, atol=0)
        torch.testing.assert_close(of_items(run, [1]).shares[owner], values[1:])


@pytest.mark.parametrize(
    "bad", [torch.full((2, 4, 1, 2), 1.5), torch.full((2, 4, 1, 2), -0.1), torch.zeros(2, 4, 1, 3)]
)
def test_a_file_with_impossible_shares_is_refused(tmp_path, bad):
    run = dataclasses.replace(with_shares(), shares={"text": bad})
    with pytest.raises(AttributionError, match="shares/text"):
        save(run, tmp_path / "a.i2am.safetensors")

"""What one I2AM Capture keeps of past runs: bounded, counted honestly, and with a true sentence for what is gone."""

import dataclasses
import gc
import weakref

import pytest
import torch

from i2am_pack.i2am_core.attribution import Attribution, Layer, LayerMaps, Reference
from i2am_pack.i2am_core.tokens import TokenGrid
from i2am_pack.nodes.comfy import handle as module
from i2am_pack.nodes.comfy.handle import Capture, Settings

MB = 2**20
GRID = TokenGrid(4, 4)


def attribution(nbytes=MB, **changes):
    maps = LayerMaps({"r2g_share": torch.zeros(1, 1, 1, nbytes // 4)}, torch.ones(1))
    whole = Attribution(
        (Reference("reference", 16, GRID),), (Layer("block 0", GRID, 1),), {(0, 0): maps}, (range(1),), (1.0, 0.0), 1,
        True, GRID,
    )  # fmt: skip
    return dataclasses.replace(whole, **changes)


def capture(budget_mb=4):
    return Capture(Settings("auto", "positive", "off", budget_mb * MB))


def latent(number):
    return torch.full((1, 4, 8, 8), float(number))


def test_all_runs_together_stay_within_one_budget():
    handle = capture()
    for number in range(50):
        handle.keep(attribution(), [latent(number)])
        assert handle.nbytes <= 4 * MB
    assert handle.find(latent(49)) and handle.find(latent(47))
    with pytest.raises(ValueError, match=r"dropped to stay within budget_mb.*give each sampler a Capture of its own"):
        handle.find(latent(0))


def test_the_newest_stays_however_large():
    handle = capture(1)
    for number in range(3):
        handle.keep(attribution(3 * MB), [latent(number)])
    assert handle.find(latent(2))
    with pytest.raises(ValueError, match="dropped"):
        handle.find(latent(1))


@pytest.mark.parametrize(
    "changes",
    [
        {"pictures": {"generated 0": torch.zeros(1024, 1024, 3, dtype=torch.uint8)}},
        {"denoise_mask": torch.zeros(1, 1024, 1024)},
        {"references": (Reference("reference", 16, GRID, embeds=torch.zeros(MB)),)},
    ],
    ids=["pictures", "mask", "tokens"],
)
def test_all_that_a_run_holds_counts(changes):
    handle = capture()
    handle.keep(attribution(1024, **changes), [latent(0)])
    assert handle.nbytes >= 3 * MB


def test_a_view_counts_as_what_it_keeps_alive_and_once():
    whole = torch.zeros(4 * MB // 4)
    handle = capture(16)
    for number in range(3):
        handle.keep(attribution(1024, denoise_mask=whole[:1].view(1, 1, 1)), [latent(number)])
    assert 4 * MB <= handle.nbytes < 5 * MB


def test_what_is_known_of_dropped_runs_is_bounded():
    handle = capture(1)
    handle.started = 1
    for number in range(3 * module.REMEMBERED):
        handle.keep(attribution(), [latent(number)])
    assert len(handle._dropped) == module.REMEMBERED
    with pytest.raises(ValueError, match=r"that this I2AM Capture has kept made this latent.*sample again"):
        handle.find(latent(0))


def test_latents_and_dropped_runs_are_freed():
    handle, run, made = capture(1), attribution(), latent(0)
    references = weakref.ref(made), weakref.ref(run)
    handle.keep(run, [made])
    handle.keep(attribution(), [latent(1)])
    del run, made
    gc.collect()
    assert [reference() for reference in references] == [None, None]

"""Some pictures of a batch are an attribution of their own, with exactly the values that they had in it."""

import dataclasses

import pytest
import torch
from recorded import COARSE, FINE, ITEMS, REFERENCE, record
from selected import maps, specific
from with_effects import with_effects

from i2am_core import Layer, Place, Recorder, Removal, errors, load, of_items, save
from i2am_core.half import full
from i2am_core.kinds import KINDS, PAIR_KEYS

LAYERS = [Layer("fine", FINE, 3), Layer("coarse", COARSE, 3)]
DETAILS = {"in each step": 2**30, "over steps": 40_000, "merged": 10_000}


def batch(budget=2**30):
    """A batch with effects and pictures, of which each item can be told from the others."""
    attribution, given = record(LAYERS, budget)
    attribution = with_effects(attribution, owners=(0, "text"))
    pictures = {f"generated {n}": torch.full((8, 8, 3), n, dtype=torch.uint8) for n in range(ITEMS)}
    mask = torch.stack([torch.full((6, 4), 1.0 + n) / ITEMS for n in range(ITEMS)])
    return dataclasses.replace(
        attribution, pictures=pictures | {"reference 0": torch.zeros(4, 4, 3)}, denoise_mask=mask
    ), given


def alone(given, item, budget):
    """What a run of this one picture would have recorded: the same calls, with its rows alone."""
    recorder = Recorder(torch.linspace(10, 0, 11), 1, budget)
    number = recorder.reference(REFERENCE)
    for step in range(10):
        for layer in LAYERS:
            fields = (*(kind.key for kind in KINDS), *PAIR_KEYS)
            for m in given[layer, step]:
                of_item = {name: x[item : item + 1] for name in fields if (x := getattr(m, name)) is not None}
                rows = (
                    torch.arange(layer.grid.cells) if recorder.pairs_fit(number, layer, layer.grid.cells, 12) else None
                )
                recorder.add(Place(layer, step, number), dataclasses.replace(m, **of_item), rows)
    return recorder.freeze(grid=FINE)


@pytest.mark.parametrize("item", range(ITEMS))
def test_an_item_is_what_a_batch_of_one_would_be(item):
    attribution, given = batch()
    one, other = of_items(attribution, [item]), alone(given, item, 2**30)
    assert one.items == 1 and one.heads == other.heads and one.entries.keys() == other.entries.keys()
    for place, entry in one.entries.items():
        expected = other.entries[place]
        assert entry.maps.keys() == expected.maps.keys() and torch.equal(entry.seen, expected.seen)
        for name in entry.maps:
            assert torch.equal(full(entry.maps[name]), full(expected.maps[name]))
        for name in PAIR_KEYS:
            assert torch.equal(entry.pairs[name], expected.pairs[name])


@pytest.mark.parametrize("detail", DETAILS)
@pytest.mark.parametrize("items", [[1], [0], [1, 0], [1, 1, 0]])
def test_items_keep_all_that_they_have(items, detail):
    attribution, _ = batch(DETAILS[detail])
    assert attribution.heads.startswith(detail)
    some = of_items(attribution, items)
    for n, item in enumerate(items):
        for level in ("unified", "time", "layer", *(("head",) if detail != "merged" else ())):
            for direction in ("r2g", "g2r"):
                assert torch.equal(
                    maps(some, direction, level, item=n).values, maps(attribution, direction, level, item=item).values
                )
        region = torch.zeros(6, 4)
        region[:3] = 1
        if any(entry.pairs for entry in attribution.entries.values()):
            assert torch.equal(
                specific(some, region, "g2r", item=n).values, specific(attribution, region, "g2r", item=item).values
            )
        assert torch.equal(some.denoise_mask[n], attribution.denoise_mask[item])
        assert torch.equal(some.pictures[f"generated {n}"], attribution.pictures[f"generated {item}"])
        for name in ("maps", "predictions"):
            of_some, of_all = getattr(some.effects, name), getattr(attribution.effects, name)
            assert of_some.keys() == of_all.keys()
            assert all(torch.equal(of_some[key][n], of_all[key][item]) for key in of_all)
        assert torch.equal(some.effects.floor[n], attribution.effects.floor[item])
        for key, regions in attribution.effects.regions.items():
            assert torch.equal(some.effects.regions[key].values[n], regions.values[item])
    assert torch.equal(some.pictures["reference 0"], attribution.pictures["reference 0"])
    assert set(some.pictures) == {"reference 0", *(f"generated {n}" for n in range(len(items)))}


def test_the_batch_stays_as_it_is_and_the_item_goes_through_a_file(tmp_path):
    attribution, _ = batch()
    before = maps(attribution, "r2g", item=1).values
    one = of_items(attribution, [1])
    for entry in one.entries.values():
        entry.maps["r2g_share"].zero_()
    assert torch.equal(maps(attribution, "r2g", normalization="share", item=1).values != 0, before != 0)
    one = of_items(dataclasses.replace(attribution, pictures={}), [1])
    save(one, tmp_path / "one.i2am.safetensors")
    loaded = load(tmp_path / "one.i2am.safetensors")
    assert torch.equal(maps(loaded, "r2g").values, before)
    assert torch.equal(loaded.effects.maps[Removal(0, "text")], attribution.effects.maps[Removal(0, "text")][1:])


def test_one_mask_for_all_items_is_theirs():
    attribution, _ = batch()
    some = of_items(dataclasses.replace(attribution, denoise_mask=torch.ones(1, 6, 4)), [1, 0])
    assert torch.equal(some.denoise_mask, torch.ones(2, 6, 4))


def test_each_picture_keeps_the_latents_that_it_was():
    attribution, _ = batch()
    latents = {"began": ("a", "b"), "ended": (frozenset({"c"}), frozenset({"d"}))}
    some = of_items(dataclasses.replace(attribution, **latents), [1, 0, 1])
    assert some.began == ("b", "a", "b") and [*map(list, some.ended)] == [["d"], ["c"], ["d"]]


@pytest.mark.parametrize("item", [-1, ITEMS])
def test_an_item_that_the_batch_lacks(item):
    attribution, _ = batch()
    with pytest.raises(errors.UnknownItem, match="numbered from 0"):
        of_items(attribution, [0, item])

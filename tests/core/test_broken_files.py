"""Files that are no attribution: each is refused in a sentence, before anything is made as large as it says."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from taken_apart import as_version_1, raw, rewrite, small, write
from with_effects import with_effects

from i2am_core.errors import BadFile
from i2am_core.files import container, load, save

ROOT = Path(__file__).resolve().parents[2]
HUGE = 10**9
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def path(tmp_path):
    """A small file, as it was saved."""
    path = tmp_path / "run.i2am.safetensors"
    save(small(), path)
    return path


def refused(path, message="is", within=5):
    """The sentence by which a file is refused, soon and with little memory."""
    start = time.process_time()
    with pytest.raises(BadFile, match=message) as refusal:
        load(path)
    assert time.process_time() - start < within
    text = str(refusal.value)
    assert path.name in text and text.endswith(".") and text.isprintable() and len(text) < 1000
    return text


def header(**fields):
    return lambda h, t: h.update(fields)


def first(things, **fields):
    return lambda h, t: h[things][0].update(fields)


def tensor(name, make):
    return lambda h, t: t.update({name: make(t[name])})


def without(*names):
    return lambda h, t: [t.pop(name) for name in names]


def filled(name, value):
    return lambda h, t: t[name].view(-1)[:1].fill_(value)


MAP = "maps/0/0/r2g_paper"
SCOPED = [f"maps/{r}/0/g2r_{x}_scope" for r in (0, 1) for x in ("paper", "share")]
HEADERS = {
    "a newer version": (header(version=4), r"written by a newer I2AM \(format 4, this one reads 3\)"),
    "no version": (lambda h, t: h.pop("version"), "not an I2AM attribution"),
    "version 0": (header(version=0), "not an I2AM attribution"),
    "version 3 without its effects": (header(version=3), "it has no 'effects'"),
    "version true": (header(version=True), "not an I2AM attribution"),
    "version 1 without its heads": (header(version=1), "has no 'heads_kept'"),
    **{f"no {x}": (lambda h, t, x=x: h.pop(x), f"has no '{x}'") for x in ("layers", "bins", "heads", "notes")},
    "no maps": (header(entries=[], reference_grids={}), "no maps at all"),
    "no references": (header(references=[]), "an entry's reference is 0"),
    "steps without end": (header(bins=[[0, HUGE]]), "do not hold its steps"),
    "steps that are left out": (header(bins=[[0, 2]]), "do not hold its steps"),
    "steps twice": (header(bins=[[0, 4], [0, 4]]), "do not hold its steps"),
    "an empty bin": (header(bins=[[0, 0], [0, 4]]), "do not hold its steps"),
    "an infinite bin": (header(bins=[[0, INF]]), "Infinity is no number"),
    "a negative bin": (header(bins=[[-1, 4]]), "an end of a time bin is -1"),
    "half a step": (header(bins=[[0, 1.5]]), "an end of a time bin is 1.5"),
    "one sigma": (header(sigmas=[1.0], bins=[]), "sigmas is a list of 1"),
    "sigmas that are no numbers": (header(sigmas=[4, NAN, 2, 1, 0]), "NaN is no number"),
    "sigmas that are true": (header(sigmas=[4, True, 2, 1, 0]), "a sigma is True"),
    "more items": (header(items=3), "has shape .* where .* is expected"),
    "many items": (header(items=HUGE), f"items is {HUGE}"),
    "no items": (header(items=0), "items is 0"),
    "true items": (header(items=True), "items is True"),
    "items as text": (header(items="2"), "items is '2'"),
    "an unknown detail": (header(heads="all"), "'all', which is no detail of heads"),
    "a detail in a list": (header(heads=["merged"]), "a list of 1, which is no detail of heads"),
    "another detail": (header(heads="merged"), "has shape .* where .* is expected"),
    "heads over steps, without their maps": (header(heads="over steps"), "is missing"),
    "more heads": (first("layers", heads=4), "has shape"),
    "many heads": (first("layers", heads=HUGE), "a layer's heads is"),
    "a large grid": (header(grid=[HUGE, HUGE]), "cells, where 67108864 are the most"),
    "a grid of four sides": (header(grid=[3, 4, 1, 1]), "height and width are expected"),
    "a flat grid": (header(grid=[3, 4, 0]), "grid is 0"),
    "no grid": (header(grid=None), "grid is None"),
    "a layer without a grid": (first("layers", grid=None), "a layer's grid is None"),
    "a reference that does not fill its grid": (first("references", grid=[9, 9]), "does not fill its grid"),
    "a reference's grid in another layer": (
        lambda h, t: h["reference_grids"].update({"0/5": [2, 3]}),
        "'0/5', which is no entry",
    ),
    "an entry of no layer": (lambda h, t: h["entries"].append([0, 5]), "an entry's layer is 5"),
    "an entry counted from the end": (lambda h, t: h["entries"].__setitem__(0, [-1, -1]), "an entry's reference is -1"),
    "an entry twice": (lambda h, t: h["entries"].append([0, 0]), "entry 0/0 is there twice"),
    "an entry of three": (lambda h, t: h["entries"].append([0, 0, 0]), "an entry is a list of 3"),
    "an entry of an infinite layer": (lambda h, t: h["entries"].append([0, INF]), "Infinity is no number"),
    "entries in an object": (header(entries={"0": 0}), "entries is an object of 1"),
    "many entries": (header(entries=[[0, 0]] * 100_000), "too few for its entries"),
    "a name that is none": (first("layers", name=["a"]), "a layer's name is a list of 1"),
    "a name without end": (first("layers", name="a" * 1_000_001), "has 1000001 letters"),
    "guidance in words": (header(guidance="7"), "guidance is '7', where a number is expected"),
    "a note that is none": (header(notes=[None]), "a note is None"),
    "notes as text": (header(notes="note"), "notes is 'note'"),
    "a count that is none": (header(skipped={"reason": -1}), "a count in skipped is -1"),
    "a count that is true": (header(captured_calls=True), "captured_calls is True"),
    "a mechanism in a list": (header(mechanism=[]), "mechanism is a list of 0"),
    "a list in the place of an object": (header(references=[[]]), "a reference is a list of 0"),
    "more references than anybody gives": (
        lambda h, t: h.update(references=h["references"] * 600),
        "its number of references is 1200",
    ),
    "more pictures than anybody makes": (header(items=50_000), "where 65536 are the most"),
    "layers of grids that no model has": (
        lambda h, t: h.update(
            layers=[*h["layers"], {"name": "large", "grid": [2**13, 2**13], "heads": 1}],
            entries=[*h["entries"], [0, 1]],
        ),
        "12 to 67108864 cells, which no model has side by side",
    ),
}
TENSORS = {
    "no map": (without(MAP), f"its tensor '{MAP}' is missing"),
    "no seen": (without("seen/0/0"), "its tensor 'seen/0/0' is missing"),
    "one scope alone": (without(SCOPED[0]), f"its tensor '{SCOPED[0]}' is missing"),
    "one pair map alone": (without("pairs/0/0/g2r_pairs"), "'pairs/0/0/g2r_pairs' is missing"),
    "pairs without positions": (without("pair_rows/0/0"), "a tensor 'pairs/0/0/"),
    "a mask without maps of it": (without(*SCOPED[:2]), "a mask, but no maps of what is in the mask"),
    "another tensor": (lambda h, t: t.update(more=torch.zeros(1)), "a tensor 'more', of which its header says nothing"),
    "a picture of nothing": (lambda h, t: t.update({"pictures/a": torch.zeros(1, 1, 3).byte()}), "'pictures/a'"),
    "a picture of no item": (lambda h, t: t.update({"pictures/generated 2": torch.zeros(1, 1, 3).byte()}), "nothing"),
    "a map in half precision without a scale": (tensor(MAP, torch.Tensor.half), f"'scale/{MAP}' is missing"),
    "a map in double precision": (tensor(MAP, torch.Tensor.double), "has type 'F64'"),
    "a map of bfloat16": (tensor(MAP, torch.Tensor.bfloat16), "has type 'BF16'"),
    "a map of eight bits": (tensor(MAP, lambda x: x.to(torch.float8_e4m3fn)), "has type 'F8_E4M3'"),
    "a map of integers": (tensor(MAP, torch.Tensor.int), "has type I32 where F32 or F16 is expected"),
    "a map transposed": (tensor(MAP, lambda x: x.mT.contiguous()), "has shape"),
    "a map of NaN": (filled(MAP, NAN), "values that are not numbers"),
    "a map of infinity": (filled(MAP, INF), "goes from .* to inf"),
    "a map below 0": (filled(MAP, -1e-3), "goes from -0.001"),
    "a map beyond all measure": (filled(MAP, 1e30), r"to 1e\+30"),
    "pair maps of NaN": (filled("pairs/0/0/g2r_pairs", NAN), "values that are not numbers"),
    "pair maps of integers": (tensor("pairs/0/0/g2r_pairs", torch.Tensor.int), "has type I32"),
    "a position outside": (filled("pair_rows/0/0", 99), "leaves the grid of 12 cells"),
    "a position counted from the end": (filled("pair_rows/0/0", -1), "leaves the grid"),
    "positions of bytes": (tensor("pair_rows/0/0", torch.Tensor.byte), "has type U8"),
    "positions in a table": (tensor("pair_rows/0/0", lambda x: x[None]), "where a list of positions is expected"),
    "seen more than there is": (filled("seen/0/0", 2), "no number of steps"),
    "half a step was seen": (filled("seen/0/0", 0.5), "no number of steps"),
    "seen is NaN": (filled("seen/0/0", NAN), "no number of steps"),
    "nothing was seen": (tensor("seen/0/0", torch.zeros_like), "nothing was captured"),
    "a mask of another shape": (tensor("denoise_mask", lambda x: x[:1]), "has shape"),
    "a mask of NaN": (filled("denoise_mask", NAN), "not numbers"),
    "a mask of bytes": (tensor("denoise_mask", torch.Tensor.byte), "has type U8"),
    "a picture of floats": (tensor("pictures/generated 0", torch.Tensor.float), "has type F32"),
    "a picture of booleans": (tensor("pictures/generated 0", torch.Tensor.bool), "has type 'BOOL'"),
    "a picture without height": (tensor("pictures/generated 0", lambda x: x[:0]), "which no picture has"),
    "a picture in gray": (tensor("pictures/generated 0", lambda x: x[..., :1].contiguous()), "which no picture has"),
    "a flat picture": (tensor("pictures/generated 0", torch.flatten), "which no picture has"),
}


def effects(**fields):
    return lambda h, t: h["effects"].update(fields)


def appended(things, value):
    return lambda h, t: h["effects"][things].append(value)


def filled_effects(name, value):
    return filled(f"effects/{name}", value)


EFFECT = "effects/maps/0/0/everything"
EFFECTS = {
    "no effects": (lambda h, t: h.pop("effects"), "it has no 'effects'"),
    "effects in a list": (header(effects=[]), "effects is a list of 0"),
    **{
        f"effects without {x}": (lambda h, t, x=x: h["effects"].pop(x), f"effects has no '{x}'")
        for x in ("removals", "regions", "predictions", "unmeasured", "evaluations", "seconds")
    },
    "neither maps nor effects": (
        lambda h, t: (h.update(entries=[], reference_grids={}), h["effects"].update(removals=[])),
        "no maps at all",
    ),
    "effects of version 2": (header(version=2), "a tensor 'effects/floor', of which its header says nothing"),
    "a removal of two": (appended("removals", [0, 1]), "a removal is a list of 2"),
    "a removal twice": (appended("removals", [0, 1, "everything"]), "one effect is there twice"),
    "a removal without a tensor": (
        appended("removals", [1, 0, "everything"]),
        "'effects/maps/1/0/everything' is missi",
    ),
    "a step that was not": (appended("removals", [4, 0, "everything"]), "a step of an effect is 4"),
    "a step counted from the end": (appended("removals", [-1, 0, "everything"]), "a step of an effect is -1"),
    "a step that is true": (appended("removals", [True, 0, "everything"]), "a step of an effect is True"),
    "a step as text": (appended("predictions", ["0", 0]), "a step of an effect is '0'"),
    "an owner that is none": (
        appended("removals", [1, "music", "everything"]),
        "an owner is 'music', where one of all",
    ),
    "an owner counted from the end": (appended("removals", [1, -1, "everything"]), "an owner is -1"),
    "an owner beyond all": (appended("predictions", [1, 2]), "an owner is 2, where a count from 0 to 1 is expected"),
    "an owner that is true": (appended("predictions", [1, True]), "an owner is True"),
    "an owner that is nothing": (appended("removals", [1, None, "everything"]), "an owner is None"),
    "a route that is none": (appended("removals", [1, 0, "around"]), "a removal's route is 'around'"),
    "a route in a list": (appended("removals", [1, 0, ["directly"]]), "a removal's route is a list of 1"),
    "regions twice": (appended("regions", [0, "taken away", 0, "directly", [1, 1]]), "one effect is there twice"),
    "regions by no cut": (effects(regions=[[0, "cut", 0, "everything", [1, 1]]]), "a cut is 'cut'"),
    "regions by no route": (effects(regions=[[0, "taken away", 0, 3, [1, 1]]]), "a route of regions is 3"),
    "regions of the text": (effects(regions=[["text", "taken away", 0, "everything", [1, 1]]]), "an owner is 'text'"),
    "regions of what has no grid": (effects(regions=[[1, "taken away", 0, "everything", [1, 1]]]), "which has no grid"),
    "more regions than tokens": (
        effects(regions=[[0, "taken away", 0, "everything", [3, 3]]]),
        "a grid of 3x2 tokens is not divided into 3x3 regions",
    ),
    "regions of frames": (effects(regions=[[0, "taken away", 0, "everything", [1, 1, 2]]]), "is not divided into"),
    "regions of nothing": (effects(regions=[[0, "taken away", 0, "everything", [0, 1]]]), "a grid of regions is 0"),
    "another division": (effects(regions=[[0, "taken away", 0, "everything", [1, 1]]]), "nothing|has shape"),
    "a prediction twice": (appended("predictions", [0, None]), "one effect is there twice"),
    "a prediction without a tensor": (appended("predictions", [3, None]), "'effects/predictions/3/nothing' is missing"),
    "evaluations below none": (effects(evaluations=-1), "evaluations of effects is -1"),
    "seconds below none": (effects(seconds=-0.1), "seconds of effects is -0.1"),
    "seconds without end": (effects(seconds=INF), "Infinity is no number"),
    "a reason that is none": (effects(unmeasured={"the text": 1}), "why it was not measured is 1"),
    "reasons in a list": (effects(unmeasured=["the text"]), "unmeasured is a list of 1"),
    "effects of references that there are not": (
        lambda h, t: h.update(references=[], entries=[], reference_grids={}),
        "an effect is of a reference, where there is none",
    ),
    "no floor": (without("effects/floor"), "its tensor 'effects/floor' is missing"),
    "an effect alone": (without(EFFECT), f"its tensor '{EFFECT}' is missing"),
    "an effect of nothing": (lambda h, t: t.update({"effects/maps/3/0/directly": t[EFFECT].clone()}), "says nothing"),
    "an effect in half precision": (tensor(EFFECT, torch.Tensor.half), "has type F16 where F32 is expected"),
    "an effect of another shape": (tensor(EFFECT, lambda x: x[:, :-1].contiguous()), "has shape"),
    "an effect of NaN": (filled_effects("maps/0/0/everything", NAN), "not numbers"),
    "an effect below 0": (filled_effects("maps/0/0/everything", -0.5), "goes from -0.5"),
    "an effect without end": (filled_effects("maps/0/0/everything", INF), "to inf"),
    "a floor of NaN": (filled_effects("floor", NAN), "not numbers"),
    "a floor below 0": (filled_effects("floor", -0.5), "goes from -0.5"),
    "effects of regions of NaN": (filled_effects("regions/0/taken away", NAN), "not numbers"),
    "effects of regions below 0": (filled_effects("regions/0/taken away", -1), "goes from -1"),
    "effects of regions transposed": (
        tensor("effects/regions/0/taken away", lambda x: x.mT.contiguous()),
        "has shape",
    ),
    "a prediction of NaN": (filled_effects("predictions/0/nothing", NAN), "not numbers"),
    "a prediction without end": (filled_effects("predictions/0/nothing", -INF), "goes from -inf"),
    "a prediction of bytes": (tensor("effects/predictions/0/nothing", torch.Tensor.byte), "has type U8"),
    "a prediction of other channels": (
        tensor("effects/predictions/0/text", lambda x: x[:, :1].contiguous()),
        "has shape",
    ),
    "a prediction without channels": (
        tensor("effects/predictions/0/nothing", lambda x: x[:, :0].contiguous()),
        "has shape .2, 0, 4, 3., where 1 to 4096 channels|has shape",
    ),
    "a prediction of one item": (tensor("effects/predictions/0/nothing", lambda x: x[:1].contiguous()), "has shape"),
    "a flat prediction": (tensor("effects/predictions/0/nothing", torch.flatten), "1 to 4096 channels are expected"),
    "predictions of many channels": (
        lambda h, t: t.update({"effects/predictions/0/nothing": torch.zeros(2, 4097, 3, 4)}),
        "1 to 4096 channels are expected",
    ),
}


@pytest.fixture
def caused(path):
    """A small file with effects, as it was saved."""
    save(with_effects(small()), path)
    return path


@pytest.mark.parametrize("name", EFFECTS)
def test_effects_that_do_not_fit_are_refused(caused, name):
    assert load(caused).effects.evaluations == 17
    change, message = EFFECTS[name]
    rewrite(caused, change)
    refused(caused, message)


def test_no_bit_can_be_flipped_in_effects(caused):
    test_no_bit_can_be_flipped_in_maps(caused)


def test_effects_of_many_owners_in_many_steps_are_refused_at_once(caused):
    """To list what was measured is to look at all of it for each owner."""

    def change(h, t):
        h.update(references=h["references"][:1] * 1000, items=1, bins=[[0, 100]], sigmas=[1.0] * 101)
        h["effects"]["removals"] = [[step, owner, "everything"] for step in range(100) for owner in range(1000)]

    rewrite(caused, change)
    refused(caused, "effects have 100000 removals of 1000 owners")


@pytest.mark.parametrize("name", HEADERS | TENSORS)
def test_a_part_that_does_not_fit_is_refused(path, name):
    """Also where another program wrote it, and gave it a checksum."""
    change, message = (HEADERS | TENSORS)[name]
    rewrite(path, change)
    refused(path, message)


@pytest.mark.parametrize("name", [name for name in TENSORS if "half precision" not in name])
def test_a_tensor_that_does_not_fit_is_refused_in_version_1_too(path, name):
    change, message = TENSORS[name]
    as_version_1(path)
    assert load(path).items == 2
    rewrite(path, change, sealed=False)
    refused(path, message.replace("F32 or F16", "F32"))


def test_version_1_has_no_half_precision(path):
    as_version_1(path)
    rewrite(path, tensor(MAP, torch.Tensor.half), sealed=False)
    refused(path, "has type F16 where F32 is expected")


def test_half_precision_has_a_largest_value(path):
    def half(h, t):
        t[MAP], t[f"scale/{MAP}"] = t[MAP].half(), t[MAP].amax(-1, keepdim=True)

    rewrite(path, half)
    load(path)
    for name, value, message in (
        (MAP, 2.0**15 + 32, "where 0 to 32768 is expected"),
        (MAP, NAN, "not numbers"),
        (f"scale/{MAP}", -1, "goes from -1"),
    ):
        again = path.with_name("again.i2am.safetensors")
        again.write_bytes(path.read_bytes())
        rewrite(again, filled(name, value))
        refused(again, message)
    rewrite(path, tensor(f"scale/{MAP}", lambda x: x[..., 0].contiguous()))
    refused(path, "has shape")


@pytest.mark.parametrize("sealed", [None, "", "0" * 64])
def test_a_checksum_that_is_missing_or_wrong_is_refused(path, sealed):
    def unseal(h, t):
        write(path, json.dumps(h), t, sealed=False)

    rewrite(path, unseal, sealed=False)
    if sealed is None:
        refused(path, "it has no checksum")
        return
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    container_header = json.loads(data[8 : 8 + length])
    container_header["__metadata__"]["i2am_checksum"] = sealed
    path.write_bytes(raw(container_header, data[8 + length :]))
    refused(path, "the checksum differs")


def test_no_bit_can_be_flipped_in_maps(path):
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    for place in range(start, len(data), 97):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        refused(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refused(path, "damaged or not a safetensors file")


def test_a_file_that_goes_on_is_refused(path):
    path.write_bytes(path.read_bytes() + b"\0")
    refused(path, "its tensors take .* bytes, where it has")


NESTED = b"[" * 100_000
OURS = {"__metadata__": {"i2am": "{}"}}
TEXTS = {
    "an empty file": (b"", "ends after 0 bytes"),
    "no safetensors": (b"PNG", "ends after 3 bytes"),
    "a header without end": (raw({}, length=2**63), "ends after"),
    "no JSON": (raw(b"{nothing}"), "damaged"),
    "no text": (raw(b"\xff\xfe\xfd"), "damaged"),
    "a list": (raw(b"[]"), "its header is a list of 0"),
    "an empty object": (raw({}), "not an I2AM attribution"),
    "deep JSON": (raw(b'{"a":' + NESTED), "nested too deeply"),
    "deep JSON in ours": (raw({"__metadata__": {"i2am": NESTED.decode()}}), "nested too deeply"),
    "a key twice": (raw(b'{"__metadata__": {}, "__metadata__": {"i2am": "{}"}}'), "one key is there twice"),
    "a key of ours twice": (raw({"__metadata__": {"i2am": '{"version": 2, "version": 1}'}}), "one key is there twice"),
    "a number without end": (raw({"__metadata__": {"i2am": '{"version": ' + "9" * 100_000 + "}"}}), "100000 digits"),
    "a number beyond all": (raw({"__metadata__": {"i2am": '{"version": 1e999}'}}), "'1e999' is no number"),
    "metadata that are none": (raw({"__metadata__": []}), "its metadata is a list of 0"),
    "metadata of numbers": (raw({"__metadata__": {"i2am": 1}}), "its metadata is 1"),
    "a tensor that is none": (raw(OURS | {"a": 1}), "tensor 'a' is 1"),
    "a tensor without a type": (raw(OURS | {"a": {}}), "a tensor has no 'dtype'"),
    "a tensor of no type": (raw(OURS | {"a": {"dtype": ["F32"], "shape": []}}), "has type a list of 1"),
    "a tensor as large as the world": (
        raw(OURS | {"a": {"dtype": "F32", "shape": [HUGE, HUGE], "data_offsets": [0, 4]}}, b"1234"),
        "is larger than the file",
    ),
    "a tensor with a negative side": (
        raw(OURS | {"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}, b"1234"),
        "a side of tensor 'a' is -1",
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_such_file_is_refused(path, name):
    content, message = TEXTS[name]
    path.write_bytes(content)
    refused(path, message)


@pytest.mark.parametrize("offsets", [[0, 8], [4, 8], [-4, 0], [0, 4.0], [4, 0], [0], None, [2**63, 2**63 + 4]])
def test_tensors_that_do_not_lie_in_order_are_refused(path, offsets):
    def change(entries):
        entries["seen/1/0"]["data_offsets"] = offsets

    in_the_container(path, change)
    refused(path, "damaged")


def in_the_container(path, change):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    entries = json.loads(data[8 : 8 + length])
    change(entries)
    path.write_bytes(raw(entries, data[8 + length :]))


def test_many_entries_of_many_references_are_refused_at_once(path):
    """Nothing is done for each pair of the two."""

    def change(h, t):
        h.update(references=h["references"][:1] * 1000, layers=h["layers"][:1] * 1000, items=1, reference_grids={})
        h["entries"] = [[r, n] for r in range(1000) for n in range(1000)]

    rewrite(path, change)
    refused(path, "too few for its entries")


@pytest.mark.parametrize(("layers", "heads", "steps"), [(300, 1, 1), (1, 300, 1), (1, 30, 10)])
def test_a_small_file_does_not_become_maps_beyond_memory(path, layers, heads, steps):
    """Every map is resized to the largest grid: a level of many small ones beside one that is large."""
    sizes = [(2**20, 1), *[(256, heads)] * layers]

    def change(h, t):
        t.clear()
        h.update(items=1, bins=[[n, n + 1] for n in range(steps)], sigmas=[1.0] * (steps + 1), grid=[16, 16])
        h.update(references=[{"name": "a", "tokens": 1, "grid": [1, 1], "key": ""}], entries=[], reference_grids={})
        h["layers"] = [{"name": "a", "grid": [1, cells], "heads": heads} for cells, heads in sizes]
        for n, (cells, heads_of_layer) in enumerate(sizes):
            h["entries"].append([0, n])
            t[f"seen/0/{n}"] = torch.ones(steps)
            for kind in ("paper", "share"):
                t[f"maps/0/{n}/r2g_{kind}"] = torch.zeros(1, steps, heads_of_layer, cells)
                t[f"maps/0/{n}/g2r_{kind}"] = torch.zeros(1, steps, heads_of_layer, 1)

    rewrite(path, change)
    refused(path, "30[01] of its maps would be resized from 256 to 1048576 cells")


def test_many_empty_tensors_are_refused_at_once(path):
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    path.write_bytes(raw({"__metadata__": {"i2am": "{}"}} | {str(n): empty for n in range(300_000)}))
    refused(path, "its header has .* bytes, where 16777216 are the most", within=0.5)
    in_the_container_of = {f"{n}": empty for n in range(100_000)}
    save(small(), path)
    in_the_container(path, lambda entries: entries.update(in_the_container_of))
    refused(path, "of which its header says nothing", within=4)


def test_little_memory_is_taken_whatever_a_file_says(path):
    """22 KB whose header spoke of a billion steps took all memory."""
    code = """
import pathlib, resource, sys
import torch, safetensors.torch
from i2am_core import errors, load
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20,) * 2)
for name in sys.argv[1:]:
    try:
        load(pathlib.Path(name))
    except errors.BadFile as error:
        print(error)
"""
    numbers = {
        "bins": header(bins=[[0, HUGE]]),
        "all": header(bins=[[0, HUGE]], items=HUGE, grid=[HUGE, 1], captured_calls=HUGE),
        "heads": first("layers", heads=4096),
        "tokens": lambda h, t: (h["references"][1].update(tokens=2**26), h["layers"][0].update(grid=[2**13, 2**13])),
        "grid": first("layers", grid=[2**13, 2**13]),
        "items": header(items=2**15),
    }
    paths = []
    for name, change in numbers.items():
        paths.append(path.with_name(f"{name}.safetensors"))
        paths[-1].write_bytes(path.read_bytes())
        rewrite(paths[-1], change)
    command = [sys.executable, "-c", code, *map(str, paths)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) == len(paths) and "memory" not in run.stdout


def test_what_is_no_file_is_refused_and_nobody_waits(path):
    folder = path.with_name("folder.i2am.safetensors")
    folder.mkdir()
    pipe = path.with_name("pipe.i2am.safetensors")
    os.mkfifo(pipe)
    for other in (folder, pipe, Path("/dev/zero"), Path("/dev/null")):
        refused(other, "is a folder, a pipe or a device, and not a file")
    loop = path.with_name("loop.i2am.safetensors")
    loop.symlink_to(loop)
    refused(loop, "cannot be read")
    dangling = path.with_name("dangling.i2am.safetensors")
    dangling.symlink_to("nowhere")
    refused(dangling, "there is no file dangling")
    refused(path.with_name("missing"), "there is no file missing")
    with pytest.raises(BadFile, match=r"a\\x00b cannot be read"):
        load(path.with_name("a\0b"))
    with pytest.raises(BadFile, match="cannot be read"):
        load(path.with_name("a" * 1000))


def test_a_file_beyond_the_memory_of_the_machine_is_refused(path, monkeypatch):
    with path.open("r+b") as file:
        file.truncate(2**42)  # of which the disk holds nothing
    refused(path, "is too large .4096.0 GB, where .* GB are the most")
    monkeypatch.setattr(container, "largest", lambda: 2**50)
    refused(path, "its tensors take .* bytes, where it has")


@pytest.mark.parametrize("change", ["shorter", "other", "gone", "truncated in place"])
def test_after_it_was_read_nothing_refers_to_the_file(path, change):
    """A memory map would change with the file, and kill the process where it became shorter."""
    attribution = load(path)
    before = {place: entry.maps["r2g_share"].clone() for place, entry in attribution.entries.items()}
    if change == "gone":
        path.unlink()
    elif change == "truncated in place":
        os.truncate(path, 10)
    else:
        path.write_bytes(b"\xff" * (10 if change == "shorter" else path.stat().st_size))
    for place, entry in attribution.entries.items():
        assert torch.equal(entry.maps["r2g_share"], before[place])
    assert str(path) not in Path("/proc/self/maps").read_text()
    assert not any(x.resolve() == path for x in Path("/proc/self/fd").iterdir())


def test_a_file_that_grows_while_it_is_read_is_refused(path, monkeypatch):
    parts = container._parts

    def grow(*args):
        with path.open("ab") as file:
            file.write(b"more")
        return parts(*args)

    monkeypatch.setattr(container, "_parts", grow)
    refused(path, "it changed while it was read")


def test_a_long_header_is_read(path):
    """Of many layers, or of a name that somebody has pasted."""
    rewrite(path, lambda h, t: h.update(notes=["n" * 400_000] * 4))
    assert len(load(path).notes) == 4


def test_files_of_others_are_told_apart(tmp_path):
    other = tmp_path / "lora.safetensors"
    save_file({"w": torch.zeros(2)}, other)
    refused(other, "not an I2AM attribution")


def test_positions_without_any_are_no_pair_maps(path):
    """As a run may have whose mask holds no cell of a layer."""

    def change(h, t):
        t["pair_rows/0/0"] = t["pair_rows/0/0"][:0]
        for key in ("g2r_pairs", "r2g_pairs"):
            t[f"pairs/0/0/{key}"] = t[f"pairs/0/0/{key}"][:, :0].contiguous()

    rewrite(path, change)
    entry = load(path).entries[0, 0]
    assert not entry.pairs and entry.pair_rows is None

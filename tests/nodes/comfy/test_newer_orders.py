"""The orders of tokens in models that the pinned ComfyUI lacks, by stand-ins: of their class, with the call's lengths.

The lengths are those of the tiny models on ComfyUI 0.33, in which ``test_edit_models.py``,
``test_hidream_o1.py`` and ``test_minimax_h3.py`` hold the maps against the oracle.
"""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import Linear, Module, ModuleList

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.nodes.comfy.blocks import TEXT_ALONE
from i2am_pack.nodes.comfy.located import CallSite, Chunk, Given, ModelCall, Regions, Skip
from i2am_pack.nodes.comfy.mechanisms.reference_latents import ReferenceLatents
from i2am_pack.nodes.comfy.mechanisms.vision_tokens import VisionTokens
from i2am_pack.nodes.comfy.token_orders import Sequence, blocks_of, sequence_of


def block(attentions=()):
    """A block whose parts are modules."""
    made = Module()
    for name in attentions:
        setattr(made, name, Linear(1, 1))
    return made


class SingleStreamDiT(Module):
    """Krea 2."""

    patch, default_ref_method = 2, None

    def __init__(self):
        super().__init__()
        self.txtfusion = Module()
        for name in ("layerwise_blocks", "refiner_blocks"):
            setattr(self.txtfusion, name, ModuleList(block(attentions=["attn"]) for _ in range(2)))
        self.blocks = ModuleList(block() for _ in range(2))


class BooguTransformer2DModel(Module):
    patch_size = 2

    def __init__(self):
        super().__init__()
        for name in ("context_refiner", "noise_refiner", "ref_image_refiner"):
            setattr(self, name, ModuleList([block()]))
        attentions = ["img_instruct_attn", "img_self_attn"]
        self.double_stream_layers = ModuleList(block(attentions=attentions) for _ in range(2))
        self.single_stream_layers = ModuleList(block() for _ in range(2))


class JoyImageTransformer3DModel(Module):
    patch_size = (1, 2, 2)

    def __init__(self):
        super().__init__()
        self.double_blocks = ModuleList(block() for _ in range(2))


class MageFlowTransformer2DModel(Module):
    patch_size = 1

    def __init__(self):
        super().__init__()
        self.transformer_blocks = ModuleList(block() for _ in range(2))


class HiDreamO1Transformer(Module):
    patch_size = 32

    def __init__(self):
        super().__init__()
        self.language_model = Module()
        self.language_model.layers = ModuleList(block() for _ in range(2))


class MiniMaxH3Model(Module):
    patch_size = (1, 2, 2)

    def __init__(self):
        super().__init__()
        self.token_refiner = Module()
        self.token_refiner.blocks = ModuleList([block(["attn"])])
        self.blocks = ModuleList(block() for _ in range(2))


def model_call(denoiser, x, references, **conditions):
    model = SimpleNamespace(diffusion_model=denoiser())
    conditions |= {"ref_latents": [torch.zeros(size) for size in references]} if references else {}
    return ModelCall(0, (), model, torch.Size(x), 7, conditions, {}, Regions())


def site(tokens, role="", keys=None):
    keys = tokens if keys is None else keys
    return CallSite("double 0", role, tokens, keys, heads=2, grid=None, k=torch.empty(1, 2, keys, 4))


FRAME = ((1, 16, 1, 8, 6), [(1, 16, 1, 4, 8), (1, 16, 1, 5, 4)])
CELLS = ((1, 128, 4, 3), [(1, 128, 2, 4), (1, 128, 3, 2)])
PICTURE = ((1, 16, 8, 6), [(1, 16, 4, 8), (1, 16, 5, 4)])
ORDERS = {  # call; tokens, role; places of picture, text and references; layer
    "krea2": (
        lambda: model_call(SingleStreamDiT, *FRAME, ref_latents_method="index"),
        (33, ""),
        (slice(7, 19), slice(0, 7), [slice(19, 27), slice(27, 33)]),
        "double 0",
    ),
    "boogu": (
        lambda: model_call(BooguTransformer2DModel, *PICTURE),
        (33, "joint"),
        (slice(21, 33), slice(0, 7), [slice(7, 15), slice(15, 21)]),
        "double 0",
    ),
    "boogu, without the text": (
        lambda: model_call(BooguTransformer2DModel, *PICTURE),
        (26, "pictures"),
        (slice(14, 26), slice(0, 0), [slice(0, 8), slice(8, 14)]),
        "double 0 without the text",
    ),
    "joyimage": (
        lambda: model_call(JoyImageTransformer3DModel, *FRAME),
        (33, ""),
        (slice(0, 12), slice(26, 33), [slice(12, 20), slice(20, 26)]),
        "double 0",
    ),
    "mage_flow": (
        lambda: model_call(MageFlowTransformer2DModel, *CELLS),
        (33, ""),
        (slice(7, 19), slice(0, 7), [slice(19, 27), slice(27, 33)]),
        "double 0",
    ),
}


@pytest.mark.parametrize("name", ORDERS)
def test_where_the_parts_are(name):
    make, (tokens, role), (picture, text, references), layer = ORDERS[name]
    sequence = sequence_of(site(tokens, role), make())
    assert isinstance(sequence, Sequence), sequence
    assert (sequence.layer, sequence.grid) == (layer, TokenGrid(4, 3))
    assert sequence.queries == sequence.picture == picture and sequence.text == text
    assert [group.index for group in sequence.references] == references
    assert [group.grid for group in sequence.references] == [TokenGrid(2, 4), TokenGrid(3, 2)]


@pytest.mark.parametrize("name", ORDERS)
def test_other_lengths_are_refused(name):
    make, (tokens, role), *_ = ORDERS[name]
    for others in (site(tokens + 1, role), site(tokens - 1, role), site(tokens, role, tokens + 1)):
        skip = sequence_of(others, make())
        assert isinstance(skip, Skip) and not skip.absent and f"{others.keys} tokens, which are not" in skip.reason


@pytest.mark.parametrize("tokens", [7, 12, 14])
def test_refiners_of_boogu_hold_one_part_each(tokens):
    skip = sequence_of(site(tokens), model_call(BooguTransformer2DModel, *PICTURE))
    assert skip.absent and "a refiner" in skip.reason


def test_pictures_of_boogu_are_never_taken_for_a_text_of_as_many_tokens():
    """The part that runs says which it is: lengths do not."""
    call = model_call(BooguTransformer2DModel, (1, 16, 4, 6), [(1, 16, 2, 2)])  # 6 and 1 tokens, as the text's 7
    assert sequence_of(site(7), call).absent
    assert sequence_of(site(7, "pictures"), call).picture == slice(1, 7)


def test_with_a_cache_of_keys_references_of_krea_2_are_columns_alone():
    """FluxKVCache is for all models with these patches."""
    sequence = sequence_of(site(19, keys=33), model_call(SingleStreamDiT, *FRAME, ref_latents_method="index"))
    assert sequence.queries == slice(7, 19) and sequence.references[1].index == slice(27, 33)


@pytest.mark.parametrize("name", ORDERS)
def test_what_is_given_is_what_is_read(name):
    """Before the run: numbers of references are those of what is located then."""
    make, (tokens, role), *_ = ORDERS[name]
    call = make()
    handed_over = {key: SimpleNamespace(cond=value) for key, value in call.conditions.items()}
    mechanism, conditioning = ReferenceLatents(), {"model_conds": handed_over}
    given = mechanism.given(Given("positive", [conditioning], {}, call.model, Regions()))
    located = mechanism.locate(site(tokens, role), Chunk(slice(0, 1), conditioning), call)
    assert [(r.name, r.key, r.grid) for r in given] == [(g.name, g.key, g.grid) for g in located.references]
    assert len(given) == 2


def test_krea_2_without_a_method_reads_no_references():
    call = model_call(SingleStreamDiT, *FRAME)
    conditioning = {"model_conds": {key: SimpleNamespace(cond=x) for key, x in call.conditions.items()}}
    assert ReferenceLatents().given(Given("positive", [conditioning], {}, call.model, Regions())) == []
    assert sequence_of(site(19), call).references == ()
    skip = ReferenceLatents().locate(site(19), Chunk(slice(0, 1), conditioning), call)
    assert "reads them only where a method says where they are" in skip.reason
    call.denoiser.default_ref_method = "index"  # as FluxKVCache sets it
    assert len(sequence_of(site(33), call).references) == 2
    older = model_call(type("SingleStreamDiT", (Module,), {"patch": 2}), FRAME[0], [])  # of cores before 0.33
    assert sequence_of(site(19), older).picture == slice(7, 19)


BLOCKS = {  # layers, and the roles of the attentions of each
    "krea2": {
        **dict.fromkeys(("text layers 0", "text layers 1", "text refiner 0", "text refiner 1"), (TEXT_ALONE,)),
        **dict.fromkeys(("single 0", "single 1"), ("",)),
    },
    "boogu": {
        **dict.fromkeys(("context refiner 0", "noise refiner 0", "ref image refiner 0"), ("",)),
        **dict.fromkeys(("double 0", "double 1"), ("joint", "pictures")),
        **dict.fromkeys(("single 0", "single 1"), ("",)),
    },
    "joyimage": dict.fromkeys(("double 0", "double 1"), ("",)),
    "mage_flow": dict.fromkeys(("double 0", "double 1"), ("",)),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_and_their_attentions(name):
    blocks = blocks_of(ORDERS[name][0]())
    assert {block.names[0]: tuple(part.role for part in block.parts) for block in blocks} == BLOCKS[name]


# HiDream-O1

IMAGE, START, END = 151655, 151652, 151653
SEEN, PATCHES = ((32, 16), (12, 40)), ((2, 1), (1, 3))  # heights and widths: of the eyes' patches, 2 x 2 a token
IN_TEXT = [START, *[IMAGE] * 128, END, START, *[IMAGE] * 120, END]
TEXT = [1, 2, 3, *IN_TEXT, *range(4, 16)]  # the last is of time


def hidream_o1(text=TEXT, seen=SEEN, patches=PATCHES, **others):
    """A picture of 2 x 3 tokens. Positions are as the host makes them: of one time for each image, row by row."""
    places, time = [[0, 0, 0]] * len(text) + [[4096, y, x] for y in range(2) for x in range(3)], 5000
    for height, width in patches:
        places += [[time, time + y, time + x] for y in range(height) for x in range(width)]
        time += height + width
    count = sum(height * width for height, width in patches)
    conditions = {
        "input_ids": torch.tensor([text]),
        "ar_len": len(text) - 1,
        "position_ids": torch.tensor(places).T[None],
        "ref_patches": torch.arange(count * 2.0).view(1, count, 2),
        "ref_pixel_values": torch.arange(992 * 3.0).view(1, 992, 3),
        "ref_image_grid_thw": torch.tensor([[[1, height, width] for height, width in seen]]),
    } | others
    return model_call(HiDreamO1Transformer, (1, 3, 64, 96), [], **conditions)


def test_where_the_parts_of_hidream_o1_are():
    """267 tokens of text, the last of them of time; 6 of the picture; 2 and 3 of the references."""
    sequence = sequence_of(site(12, keys=278), hidream_o1())
    assert (sequence.grid, sequence.queries, sequence.picture) == (TokenGrid(2, 3), slice(1, 7), slice(267, 273))
    assert [(x.index, x.grid) for x in sequence.references] == [
        (slice(273, 275), TokenGrid(2, 1)),
        (slice(275, 278), TokenGrid(1, 3)),
    ]
    assert [(x.index, x.grid) for x in sequence.seen] == [
        (slice(4, 132), TokenGrid(16, 8)),
        (slice(134, 254), TokenGrid(6, 20)),
    ]
    assert sequence.all_text.tolist() == [0, 1, 2, 3, 132, 133, *range(254, 266)]


@pytest.mark.parametrize(("queries", "keys"), [(12, 277), (12, 279), (11, 278), (278, 278), (13, 278)])
def test_other_lengths_of_hidream_o1_are_refused(queries, keys):
    skip = sequence_of(site(queries, keys=keys), hidream_o1())
    assert not skip.absent and "which are not 267 of text, 6 of the picture, 5 of reference images" in skip.reason


def test_hidream_o1_without_references_has_its_text_alone():
    call = hidream_o1(text=list(range(15)))
    for name in ("ref_patches", "ref_pixel_values", "ref_image_grid_thw"):
        del call.conditions[name]
    sequence = sequence_of(site(7, keys=21), call)
    assert (sequence.references, sequence.seen) == ((), ()) and sequence.all_text.tolist() == list(range(14))
    for mechanism in (ReferenceLatents(), VisionTokens()):
        assert not mechanism.is_in_use(Chunk(slice(0, 1), {}), call)


OTHERWISE = {
    "positions that are not row by row": (
        {"position_ids": hidream_o1().conditions["position_ids"].flip(2)},
        "patches have other positions than row by row",
    ),
    "fewer tokens among the text": ({"seen": ((32, 16), (12, 44))}, "not as many as the eyes see"),
    "more tokens among the text": ({"seen": ((32, 16),)}, "more tokens of images among the text"),
    "a text of another encoder": ({"ar_len": None}, "without the tokens of its text"),
}


@pytest.mark.parametrize("case", OTHERWISE)
def test_images_of_hidream_o1_that_are_otherwise_are_refused(case):
    about, reason = OTHERWISE[case]
    call = hidream_o1(**about)
    if call.conditions["ar_len"] is None:
        del call.conditions["ar_len"]
    for mechanism in (ReferenceLatents(), VisionTokens()):
        skip = mechanism.locate(site(12, keys=278), Chunk(slice(0, 1), {}), call)
        assert isinstance(skip, Skip) and not skip.absent and reason in skip.reason


@pytest.mark.parametrize("mechanism", [ReferenceLatents(), VisionTokens()])
def test_what_hidream_o1_is_given_is_what_is_read(mechanism):
    call = hidream_o1()
    conditioning = {"model_conds": {key: SimpleNamespace(cond=value) for key, value in call.conditions.items()}}
    given = mechanism.given(Given("positive", [conditioning], {}, call.model, Regions()))
    located = mechanism.locate(site(12, keys=278), Chunk(slice(0, 1), conditioning), call)
    assert [(r.name, r.key, r.grid) for r in given] == [(g.name, g.key, g.grid) for g in located.references]
    assert len({r.key for r in given}) == 2


def test_blocks_of_hidream_o1():
    assert [block.names for block in blocks_of(hidream_o1())] == [("double 0",), ("double 1",)]


# MiniMax H3

PARTS = [  # as on ComfyUI 0.33, in ``test_minimax_h3.py``
    *[(0, 7, "text"), (7, 11, "cond"), (11, 17, "ref_img"), (17, 23, "ref_audio"), (23, 27, "ref_img")],
    *[(27, 31, "ref_audio"), (31, 47, "audio"), (47, 55, "video")],
]


def minimax_h3(signature=(7, 2, 4, 4, 8), **changes):
    latents = [torch.full((1, 24, *size), 1.0 + n) for n, size in enumerate(((1, 4, 4), (1, 4, 6), (2, 2, 4)))]
    payload = {
        "keyframes": [{"resolved_frame_index": 0, "latent": latents[0]}],
        "refs": [
            {"kind": "image", "latent_h": 4, "latent_w": 6, "latent": latents[1]},
            {
                "kind": "video_audio",
                "latent_t": 2,
                "latent_h": 2,
                "latent_w": 4,
                "ref_audio_t": 3,
                "latent": latents[2],
            },
            {"kind": "audio", "ref_audio_t": 2},
        ],
        "layout": SimpleNamespace(segments=PARTS, signature=signature),
    } | changes
    shapes = [torch.Size((1, 24, 2, 4, 4)), torch.Size((1, 32, 2, 8))]
    return model_call(MiniMaxH3Model, shapes[0], [], minimax_payload=payload, latent_shapes=shapes)


def test_where_the_parts_of_minimax_h3_are():
    sequence = sequence_of(site(55), minimax_h3())
    assert sequence.grid == TokenGrid(2, 2, 2) and sequence.text == slice(0, 7)
    assert sequence.queries == sequence.picture == slice(47, 55)
    assert [(x.name, x.index, x.grid) for x in sequence.references] == [
        ("guide 1", slice(7, 11), TokenGrid(2, 2)),
        ("reference image 1", slice(11, 17), TokenGrid(2, 3)),
        ("reference video 1", slice(23, 27), TokenGrid(1, 2, 2)),
    ]


def test_minimax_h3_of_another_layout_is_refused():
    for call in (minimax_h3(signature=(8, 2, 4, 4, 8)), minimax_h3(layout=None)):
        assert "does not say where text, sound and video are" in sequence_of(site(55), call).reason
    for others in (site(54), site(56), site(8, keys=55)):
        skip = sequence_of(others, minimax_h3())
        assert "which are not 47 of all before the video, 8 of the video" in skip.reason and not skip.absent


def test_what_minimax_h3_is_given_is_what_is_read():
    call = minimax_h3()
    conditioning = {"model_conds": {key: SimpleNamespace(cond=value) for key, value in call.conditions.items()}}
    given = ReferenceLatents().given(Given("positive", [conditioning], {}, call.model, Regions()))
    located = ReferenceLatents().locate(site(55), Chunk(slice(0, 1), conditioning), call)
    assert [(r.name, r.key, r.grid) for r in given] == [(g.name, g.key, g.grid) for g in located.references]
    assert len({r.key for r in given}) == 3


def test_blocks_of_minimax_h3():
    roles = {block.names[0]: tuple(part.role for part in block.parts) for block in blocks_of(minimax_h3())}
    assert roles == {"text refiner 0": (TEXT_ALONE,), "block 0": ("",), "block 1": ("",)}

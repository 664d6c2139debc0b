"""The orders of tokens in models that the pinned ComfyUI lacks, by stand-ins: of their class, with the call's lengths.

The lengths are those of the tiny models on ComfyUI 0.33, in which ``test_edit_models.py`` holds the maps by the oracle.
"""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import Linear, Module, ModuleList

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.nodes.comfy.blocks import TEXT_ALONE
from i2am_pack.nodes.comfy.located import CallSite, Chunk, Given, ModelCall, Regions, Skip
from i2am_pack.nodes.comfy.mechanisms.reference_latents import ReferenceLatents
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

"""Token orders of video models that older cores lack: with the shapes and lengths that the real models have on 0.33.

``test_wan_references.py`` and ``test_ltxv_guides.py`` run the real ones, where there are any.
"""

from types import SimpleNamespace

import pytest
import torch

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.nodes.comfy.located import CallSite, Chunk, Located, ModelCall, Regions, Skip
from i2am_pack.nodes.comfy.mechanisms import MECHANISMS
from i2am_pack.nodes.comfy.placement import Placement
from i2am_pack.nodes.comfy.token_orders import ORDERS, order_of, sequence_of
from i2am_pack.nodes.comfy.windows import Window


def denoiser(name, **attributes):
    """Of a class of this name, made from WanModel where it is one of its kin."""
    bases = (type("WanModel", (), {}),) if "Wan" in name and name != "WanModel" else ()
    made = type(name, bases, {})()
    vars(made).update({"patch_size": (1, 2, 2)} | attributes)
    return made


def call_of(made, x, **conditions):
    shaped = {name: torch.zeros(x) if isinstance(x, tuple) else x for name, x in conditions.items()}
    chunk = Chunk(slice(0, 1), {})
    return ModelCall(
        0, (chunk,), SimpleNamespace(diffusion_model=made), torch.Size(x), 9, shaped, {}, Regions(),
    )  # fmt: skip


def site(queries, keys, role="self", masked_rows=0, layer="block 0"):
    k = torch.empty(1, 2, keys, 12)
    return CallSite(layer, role, queries, keys, heads=2, grid=None, k=k, masked_rows=masked_rows)


def conv(*kernel):
    return SimpleNamespace(kernel_size=kernel)


PACKER = SimpleNamespace(zip_frame_buckets=[1, 2, 16], proj=conv(1, 2, 2), proj_2x=conv(2, 4, 4), proj_4x=conv(4, 8, 8))


def latents(*sizes):
    return [torch.zeros(1, 16, *size) for size in sizes]


def entry(frames, height, width, tokens):
    return {"pre_filter_count": tokens, "latent_shape": [frames, height, width], "strength": 1.0, "pixel_mask": None}


def coarser_mask():
    """As LTXVAddGuide makes it for guides on a grid coarser by 2, after a video of 3 frames."""
    mask = torch.ones(1, 128, 5, 2, 4)
    mask[:, :, 3:] = -2
    mask[:, :, 3:, ::2, ::2] = 0
    return mask


CASES = {  # the call, its tokens, those of the video, and the references with their columns and grids
    "s2v": (
        call_of(
            denoiser("WanModel_S2V", frame_packer=PACKER), (1, 16, 2, 8, 16),
            reference_latent=(1, 16, 1, 8, 16), reference_motion=(1, 16, 19, 8, 16),
        ),
        144, slice(0, 64),
        [
            ("reference frame 1", slice(64, 96), TokenGrid(4, 8)),
            ("motion, 1 frame before", slice(96, 128), TokenGrid(4, 8)),
            ("motion, 2 frames before", slice(128, 136), TokenGrid(2, 4)),
            ("motion, 16 frames before", slice(136, 144), TokenGrid(1, 2, 4)),
        ],
    ),
    "scail 2": (
        call_of(
            denoiser("SCAILWanModel"), (1, 16, 2, 8, 12),
            reference_latent=(1, 20, 2, 8, 12), pose_latents=(1, 20, 2, 4, 6),
        ),
        108, slice(48, 96),
        [
            ("reference frame 1", slice(24, 48), TokenGrid(4, 6)),
            ("reference frame 2", slice(0, 24), TokenGrid(4, 6)),
            ("pose video", slice(96, 108), TokenGrid(2, 3, 2)),
        ],
    ),
    "bernini": (
        call_of(denoiser("WanModel"), (1, 16, 2, 4, 6), context_latents=latents((2, 4, 6), (1, 4, 6), (1, 6, 5))),
        39, slice(0, 12),
        [
            ("context video 1", slice(12, 24), TokenGrid(2, 3, 2)),
            ("context image 2", slice(24, 30), TokenGrid(2, 3)),
            ("context image 3", slice(30, 39), TokenGrid(3, 3)),
        ],
    ),
    "ltxv": (
        call_of(
            denoiser("LTXVModel"), (1, 128, 6, 2, 4), keyframe_idxs=(1, 3, 24, 2), denoise_mask=(1, 128, 6, 2, 4),
            guide_attention_entries=[entry(2, 2, 4, 16), entry(1, 2, 4, 8)],
        ),
        48, slice(0, 24),
        [("guide 1", slice(24, 40), TokenGrid(2, 4, 2)), ("guide 2", slice(40, 48), TokenGrid(2, 4))],
    ),
    "ltxv, coarser": (
        call_of(
            denoiser("LTXVModel"), (1, 128, 5, 2, 4), keyframe_idxs=(1, 3, 16, 2), denoise_mask=coarser_mask(),
            guide_attention_entries=[entry(1, 1, 2, 8), entry(1, 1, 2, 8)],
        ),
        28, slice(0, 24),
        [("guide 1", slice(24, 26), TokenGrid(1, 2)), ("guide 2", slice(26, 28), TokenGrid(1, 2))],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_references_at_their_columns(case):
    call, tokens, video, references = CASES[case]
    sequence = sequence_of(site(tokens, tokens), call)
    assert sequence.queries == sequence.picture == video
    assert [(r.name, r.index, r.grid) for r in sequence.references] == references
    located = MECHANISMS["reference frames"].locate(site(tokens, tokens), call.chunks[0], call)
    assert isinstance(located, Located) and located.queries == video and not located.of_others


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("more", [-1, 1, 6])
def test_other_lengths_are_refused(case, more):
    call, tokens, _, _ = CASES[case]
    for queries, keys in ((tokens + more, tokens + more), (tokens, tokens + more)):
        assert isinstance(sequence_of(site(queries, keys), call), Skip)


def test_rows_of_guides_alone_are_of_others():
    """Of strengths other than 1; where they are as many as the video's, the mask tells them apart."""
    call, *_ = CASES["ltxv"]
    video, guides = (sequence_of(site(24, 48, masked_rows=rows), call) for rows in (1, 24))
    assert video.queries == slice(0, 24) and not video.of_others and guides.of_others
    located = MECHANISMS["reference frames"].locate(site(24, 48, masked_rows=24), call.chunks[0], call)
    assert located.of_others and located.queries == slice(0, 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"keyframe_idxs": torch.zeros(1, 3, 20, 2)}, "not whole frames"),
        ({"guide_attention_entries": [entry(1, 2, 4, 8)]}, "where the latent has 24 behind the video"),
        ({"guide_attention_entries": [entry(1, 1, 2, 24)]}, "which are not a grid"),
        ({"denoise_mask": torch.full((1, 128, 6, 2, 4), -1.0)}, "leaves tokens of the video itself out"),
    ],
)
def test_guides_that_cannot_be_placed_are_refused(change, reason):
    call = CASES["ltxv"][0]
    other = call_of(call.denoiser, tuple(call.x), **{**call.conditions, **change})
    assert reason in sequence_of(site(48, 48), other).reason


def test_guides_of_older_cores_are_frames():
    call = call_of(denoiser("LTXVModel"), (1, 128, 5, 2, 4), keyframe_idxs=(1, 3, 16))
    assert [(r.name, r.index) for r in sequence_of(site(40, 40), call).references] == [
        ("guide frame 1", slice(24, 32)), ("guide frame 2", slice(32, 40)),
    ]  # fmt: skip


CLIP = {"clip_fea": (1, 257, 1280)}


def images_of(call, queries, keys, role, layer="block 0"):
    return MECHANISMS["image cross-attention"].locate(site(queries, keys, role, layer=layer), call.chunks[0], call)


def test_rows_of_the_video_among_those_that_look_at_an_image():
    call = call_of(
        denoiser("SCAILWanModel", img_emb=SimpleNamespace(emb_pos=None)), (1, 16, 2, 8, 12),
        reference_latent=(1, 20, 1, 8, 12), pose_latents=(1, 20, 2, 4, 6), **CLIP,
    )  # fmt: skip
    located = images_of(call, 84, 257, "image")
    assert located.queries == slice(24, 72) and located.layer.grid == TokenGrid(4, 6, 2)
    assert [group.name for group in located.references] == ["reference image"]
    assert isinstance(images_of(call, 72, 257, "image"), Skip)


def test_animate_2_by_its_lengths():
    """Roles are told by lengths: no block runs by its forward."""
    made = denoiser("WanAnimate2Model", img_emb=SimpleNamespace(emb_pos=None))
    call = call_of(made, (1, 16, 3, 4, 6), c_concat=(1, 20, 3, 4, 6), pose_latents=(1, 16, 2, 4, 6), **CLIP)
    assert (
        type(order_of(call.family)).__name__ == "WanAnimate2"
        and list(ORDERS["WanAnimate2Model"].blocks(made, call)) == []
    )
    assert images_of(call, 18, 257, "", "double 0").queries == slice(0, 18)
    for queries, keys in ((12, 12), (12, 257), (12, 9)):  # the branch of poses
        assert images_of(call, queries, keys, "", "double 0").absent
    for queries, keys in ((6, 18), (6, 24), (18, 18)):
        answer = images_of(call, queries, keys, "", "double 0")
        assert "for each frame of the video apart" in answer.reason and not answer.absent
    assert images_of(call, 18, 9, "", "double 0").absent


# Context windows, of which newer cores give a model's conditioning the frames that are in the window


def control(references, frames):
    """Of VACE: so many frames of references, then those of a video that is all made, ``[1, 96, frames, h, w]``."""
    made = torch.ones(1, 96, frames, 4, 6)
    made[:, :, :references] = torch.cat([torch.ones(16), torch.zeros(80)]).view(1, 96, 1, 1, 1)
    return made


def in_window(name, frames, total, conditions, conditioning):
    """A call for these frames of so many, and its rows."""
    numbers = torch.tensor(frames)
    placement = Placement(window=Window(numbers, torch.ones(len(frames)), total, frames[0] == 0))
    model = SimpleNamespace(diffusion_model=denoiser(name), process_latent_in=lambda latent: latent)
    chunk = Chunk(slice(0, 1), conditioning, placement)
    x = torch.Size((1, 16, len(frames), 4, 6))
    return ModelCall(0, (chunk,), model, x, 9, conditions, {}, Regions()), chunk


VACE_WINDOWS = {  # frames of the window, references in its control and in the whole one: those read, or the reason
    "the first": ([0, 1, 2, 3], 1, 1, 1),
    "the first, of two references": ([0, 1, 2, 3], 2, 2, 2),
    "another": ([2, 3, 4, 5], 0, 1, "holds no frame of the reference"),
    "another that keeps it": ([2, 3, 4, 5], 1, 1, 1),
    "another behind the reference's frame": ([0, 3, 4, 5], 1, 1, 1),
    "one that keeps one of two": ([2, 3, 4, 5], 1, 2, "holds some of the frames of the reference"),
    "one that looks like none": ([1, 2, 3, 4], 0, 2, "holds some of the frames of the reference"),
}


@pytest.mark.parametrize("case", VACE_WINDOWS)
def test_vace_in_a_context_window(case):
    frames, here, whole, expected = VACE_WINDOWS[case]
    all_of_it = control(whole, 6)
    conditioning = {"vace_frames": [all_of_it[:, :32]], "vace_mask": [all_of_it[:, 32:]]}
    call, chunk = in_window("VaceWanModel", frames, 6, {"vace_context": control(here, 4)[:, None]}, conditioning)
    answer = MECHANISMS["reference frames"].locate(site(24, 24), chunk, call)
    if isinstance(expected, str):
        assert expected in answer.reason and answer.absent == ("no frame" in expected)
        return
    assert [group.index for group in answer.references] == [slice(6 * n, 6 * n + 6) for n in range(expected)]
    assert answer.queries == slice(6 * expected, 24)
    placed = chunk.placement.on(answer.layer.grid)
    assert placed.grid == TokenGrid(2, 3, 6 - expected)
    assert placed.cells.view(-1, 6)[:, 0].tolist() == [6 * (frame - expected) for frame in frames[expected:]]


def test_a_reference_of_vace_between_frames_of_a_window_is_refused():
    whole, here = control(1, 6), control(0, 4)
    here[:, :, 2] = control(1, 1)[:, :, 0]
    conditioning = {"vace_frames": [whole[:, :32]], "vace_mask": [whole[:, 32:]]}
    call, chunk = in_window("VaceWanModel", [4, 5, 0, 1], 6, {"vace_context": here[:, None]}, conditioning)
    answer = MECHANISMS["reference frames"].locate(site(24, 24), chunk, call)
    assert "between frames of the video" in answer.reason and not answer.absent


@pytest.mark.parametrize(
    ("frames", "known", "reason"),
    [
        ([0, 1, 2, 3], True, ""),
        ([2, 3, 4, 5], False, "holds no frame of the reference"),
        ([2, 3, 4, 5], True, "holds some of the frames of the reference"),  # kept, or motion that goes on
        ([4, 5, 0, 1], False, "between frames of the video"),
    ],
)
def test_animate_in_a_context_window(frames, known, reason):
    beside = torch.zeros(1, 20, 4, 4, 6)
    beside[:, :4, 0] = float(known)
    call, chunk = in_window("AnimateWanModel", frames, 6, {"c_concat": beside}, {})
    answer = MECHANISMS["reference frames"].locate(site(24, 24), chunk, call)
    if reason:
        assert reason in answer.reason and answer.absent == ("no frame" in reason)
    else:
        assert answer.references[0].index == slice(0, 6) and answer.gain[0].tolist() == [0.0] * 6 + [1.0] * 18

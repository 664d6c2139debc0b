"""What ComfyUI's conditionings hold, in the words of a person; and what the model gets of it, by which route.

Keys of a conditioning are those that nodes set (``conditioning_set_values``, node_helpers.py). What ``extra_conds``
(comfy/model_base.py) makes of them, the model gets under names of its own.
"""

from collections.abc import Collection, Mapping
from typing import TypeVar

T = TypeVar("T")

REFERENCES = {  # key of a conditioning -> what a person calls what is there
    "reference_latents": "reference latents",
    "concat_latent_image": "an image or video beside the latent",
    "concat_image": "an image beside the latent",
    "noise_concat": "an image beside the latent",
    "clip_vision_output": "an image through CLIP vision",
    "clip_vision_outputs": "images through CLIP vision",
    "clip_vision_output_ref": "the reference image through CLIP vision",
    "clip_vision_output_pose": "the pose through CLIP vision",
    "unclip_conditioning": "an image by unCLIP",
    "stable_cascade_prior": "the picture of Stable Cascade's first stage",
    "time_dim_concat": "frames beside the video",
    "time_dim_replace": "frames in the place of the video's first",
    "context_latents": "latents as context",
    "ref_latent": "a reference frame",
    "vace_frames": "VACE's control, with its references",
    "keyframe_idxs": "guide frames",
    "pose_video_latent": "a video of poses",
    "face_video_pixels": "a video of a face",
    "reference_motion": "frames of motion before the video",
    "control_video": "a control video",
    "minimax_refs": "references beside the video",
    "minimax_keyframes": "guide frames",
    "lq_latent": "the latent that is decoded or enlarged",
    "control": "a ControlNet",
}

# No reference: text, sound, numbers, places and times, and what only goes with one of the keys above.
NO_REFERENCES = frozenset({
    *("cross_attn", "cross_attn_controlnet", "pooled_output", "attention_mask", "attention_mask_img_shape"),
    *("attention_mask_mt5xl", "conditioning_mt5xl", "conditioning_llama3", "conditioning_byt5small"),
    *("conditioning_lyrics", "t5xxl_ids", "t5xxl_weights", "text_input_ids", "unprocessed_ltxav_embeds"),
    *("reference_latents_text_embeds", "cross_attn_pose", "time_conditioning", "prompt_type", "uuid", "model_conds"),
    *("audio_embed", "audio_codes", "ref_audio", "reference_audio_timbre_latents", "camera_conditions"),
    *("area", "mask", "strength", "mask_strength", "set_area_to_bounds", "gligen", "hooks", "default"),
    *("start_percent", "end_percent", "timestep_start", "timestep_end", "clip_start_percent", "clip_end_percent"),
    *("guidance", "width", "height", "control_apply_to_uncond", "additional_models"),
    *("concat_mask", "concat_mask_index", "denoise_mask", "vace_mask", "vace_strength", "guiding_frame_index"),
    *("reference_latents_method", "ref_mask_28ch", "driving_mask_28ch", "guide_attention_entries"),
    "i2am_references",
})  # fmt: skip

COMPANIONS = frozenset({  # what the model gets only beside what a reference becomes, or beside its sound
    *("ref_latents_method", "audio_denoise_mask"),
    *("ref_image_grid_thw", "input_ids", "position_ids", "token_types", "vinput_mask", "ar_len"),  # of HiDream-O1
})  # fmt: skip

READ_BY = {  # what the model gets -> the mechanisms that read it in attention
    "ref_latents": ("reference latents",),
    "ref_patches": ("reference latents",),
    "minimax_payload": ("reference latents",),
    "ref_pixel_values": ("vision tokens",),
    "siglip_feats": ("vision tokens",),
    "image_cond": ("reference latents",),
    "clip_fea_ref": ("image cross-attention",),
    "clip_fea": ("image cross-attention", "vision tokens"),
    "time_dim_concat": ("reference frames",),
    "reference_latent": ("reference frames",),
    "ref_latent": ("reference frames",),
    "vace_context": ("reference frames",),
    "context_latents": ("reference frames",),
    "reference_motion": ("reference frames",),
    "keyframe_idxs": ("reference frames",),
}

READ_BY_FAMILY = {  # what only some families of models have tokens for
    ("pose_latents", "SCAILWanModel"): ("reference frames",),
}


def readers_of(name: str, family: Collection[str]) -> tuple[str, ...]:
    """The mechanisms that read this in the attention of a denoiser of these classes."""
    return _of_family(READ_BY_FAMILY, name, family, READ_BY.get(name, ()))


def route_of(name: str, family: Collection[str]) -> str:
    """The route by which this reaches the picture in a denoiser of these classes; "" where none is known."""
    return _of_family(ROUTES_OF_FAMILY, name, family, ROUTES.get(name, ""))


def _of_family(known: Mapping[tuple[str, str], T], name: str, family: Collection[str], otherwise: T) -> T:
    return next((value for (what, kind), value in known.items() if what == name and kind in family), otherwise)


ROUTES_OF_FAMILY = {  # where a family of models has another
    ("pose_latents", "WanAnimate2Model"): "as keys of their own for each frame, through a branch of the model",
}

ROUTES = {  # what the model gets -> the route by which it reaches the picture, beside attention or unseen in it
    "c_concat": "as further channels of the latent",
    "y": "as the vector beside the time step",
    "effnet": "added to the picture's own tokens",
    "vace_context": "through the blocks of VACE, whose outputs are added to the video's",
    "pose_latents": "added to the video's own tokens",
    "clip_fea_pose": "through the model's branch of poses",
    "face_pixel_values": "through the model's adapter for faces",
    "control_video": "added to the video's own tokens",
    "lq_latent": "added to the picture's own tokens",
    "time_dim_replace": "as frames of the video itself",
    "denoise_mask": "as a time step of its own for a part of the latent",
}

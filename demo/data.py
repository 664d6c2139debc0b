"""Inpainting scenes whose true correspondence is known.

A scene is a soft field of colour with one object on it. A square around the object is masked, and a
reference image shows the same object on another field. The task of the model: fill the square.
Because both images are drawn here, we know which reference pixel every scene pixel comes from.
"""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

IMAGE = 64  # px
PATCH = 4  # px of one latent cell
GRID = IMAGE // PATCH

_SUPERSAMPLE = 2
_MASK_CELLS = (9, 12)  # side of the masked square, in latent cells, inclusive
_SCENE_FILL = 0.94  # object size over mask side: centred, so that the task has one answer
_REFERENCE_SIZE = (40.0, 50.0)  # px
_REFERENCE_SHIFT = 4.0  # px, off the centre


@dataclass(frozen=True)
class Scenes:
    """A batch of B scenes. Images are ``[B, 3, IMAGE, IMAGE]`` and masks ``[B, 1, IMAGE, IMAGE]``, in [0, 1].

    A scene pixel at ``p`` (x, y) shows what the reference shows at ``zoom * p + shift``.
    """

    image: Tensor  # the truth
    mask: Tensor  # 1 where the model must paint
    object_mask: Tensor  # opacity of the object in the scene
    reference: Tensor
    reference_object_mask: Tensor
    zoom: Tensor  # [B]
    shift: Tensor  # [B, 2]

    @property
    def masked_image(self) -> Tensor:
        """The scene with the masked square in middle grey, as ComfyUI's InpaintModelConditioning makes it."""
        return torch.where(self.mask > 0.5, torch.full_like(self.image, 0.5), self.image)

    def part(self, chosen: Tensor) -> "Scenes":
        """Some of them: ``chosen`` are their numbers."""
        return Scenes(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    def reference_position(self, grid: int = GRID) -> Tensor:
        """Where in the reference the centres of grid x grid cells come from: ``[B, grid, grid, 2]``, (x, y) in px."""
        centre = (torch.arange(grid) + 0.5) * (IMAGE / grid)
        cell = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), -1)
        return cell * self.zoom[:, None, None, None] + self.shift[:, None, None]


def draw_scenes(sprites: Tensor, generator: torch.Generator, augment: bool = False, displaced: float = 1.0) -> Scenes:
    """One scene for each sprite of ``[B, 4, s, s]`` uint8. ``augment`` mirrors objects and swaps their colours.

    ``displaced`` is how far the object in the scene may be from where its reference shows it, in place and size: at 0
    it is there, to half a cell.
    """
    batch = len(sprites)
    rgba = sprites.float() / 255
    if augment:
        rgba = _augmented(rgba, generator)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator)

    low, high = _MASK_CELLS
    side = torch.randint(low, high + 1, (batch,), generator=generator)
    corner = (torch.rand(batch, 2, generator=generator) * (GRID - side + 1)[:, None]).floor()
    corner = torch.lerp(((GRID - side) / 2)[:, None].floor().expand(-1, 2), corner, displaced).round()
    centre = (corner + side[:, None] / 2) * PATCH
    size = side * PATCH * _SCENE_FILL

    reference_size = torch.lerp(size, uniform(*_REFERENCE_SIZE), displaced)
    reference_centre = IMAGE / 2 + displaced * uniform(-_REFERENCE_SHIFT, _REFERENCE_SHIFT, 2)
    zoom = reference_size / size

    image, object_mask = _compose(rgba, size, centre, _colour_field(batch, generator))
    reference, reference_object_mask = _compose(rgba, reference_size, reference_centre, _colour_field(batch, generator))
    return Scenes(
        image=image,
        mask=_square(corner * PATCH, side * PATCH),
        object_mask=object_mask,
        reference=reference,
        reference_object_mask=reference_object_mask,
        zoom=zoom,
        shift=reference_centre - zoom[:, None] * centre,
    )


def to_latent(image: Tensor) -> Tensor:
    """Image ``[B, 3, H, W]`` in [0, 1] to latent ``[B, 48, H / PATCH, W / PATCH]`` in [-1, 1]; nothing is lost."""
    return F.pixel_unshuffle(image * 2 - 1, PATCH)


def to_image(latent: Tensor) -> Tensor:
    """The inverse of ``to_latent``, clamped to [0, 1]."""
    return (F.pixel_shuffle(latent, PATCH) / 2 + 0.5).clamp(0, 1)


def distance(one: Tensor, other: Tensor, where: Tensor) -> Tensor:
    """Root mean square over the pixels of ``where [B, 1, H, W]``, of images ``[B, 3, H, W]``: ``[B]``."""
    squares = ((one - other).square() * where).flatten(1).sum(1)
    return (squares / (3 * where.flatten(1).sum(1))).sqrt()


def psnr(one: Tensor, other: Tensor, where: Tensor) -> Tensor:
    """The same in dB, of images in [0, 1]: ``[B]``."""
    return -20 * distance(one, other, where).log10()


def _augmented(rgba: Tensor, generator: torch.Generator) -> Tensor:
    batch = len(rgba)
    mirror = torch.rand(batch, 1, 1, 1, generator=generator) < 0.5
    rgba = torch.where(mirror, rgba.flip(-1), rgba)
    order = torch.rand(batch, 3, generator=generator).argsort(1)
    swapped = rgba[:, :3].gather(1, order[:, :, None, None].expand_as(rgba[:, :3]))
    return torch.cat([swapped, rgba[:, 3:]], 1)


def _colour_field(batch: int, generator: torch.Generator) -> Tensor:
    """A soft colour for each corner, blended: what the masked square hides of it follows from its rim."""
    corners = 0.15 + 0.7 * torch.rand(batch, 3, 2, 2, generator=generator)
    return F.interpolate(corners, size=(IMAGE, IMAGE), mode="bilinear", align_corners=True)


def _compose(rgba: Tensor, size: Tensor, centre: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
    """Draw each object at ``size`` px, centred at ``centre`` (x, y), on its background."""
    fine = IMAGE * _SUPERSAMPLE
    pixel = (torch.arange(fine) + 0.5) / _SUPERSAMPLE
    grid = torch.stack(torch.meshgrid(pixel, pixel, indexing="xy"), -1)
    grid = (grid - centre[:, None, None]) / (size[:, None, None, None] / 2)
    premultiplied = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], 1)
    drawn = F.grid_sample(premultiplied, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    drawn = F.avg_pool2d(drawn, _SUPERSAMPLE)
    colour, opacity = drawn[:, :3], drawn[:, 3:]
    return colour + (1 - opacity) * background, opacity


def _square(corner: Tensor, side: Tensor) -> Tensor:
    pixel = torch.arange(IMAGE) + 0.5
    inside = (pixel > corner[:, :, None]) & (pixel < (corner + side[:, None])[:, :, None])  # [B, (x, y), IMAGE]
    return (inside[:, 1, :, None] & inside[:, 0, None, :])[:, None].float()

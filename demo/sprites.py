"""The objects of the demo: colour emoji, some of them never shown to the model.

Sprites are RGBA images of one size. For training they are rendered from the Noto Color Emoji font
(SIL Open Font License 1.1, Debian package fonts-noto-color-emoji). The held-out ones are kept in
``held_out.png`` beside this file, so that the demo and its tests need no font.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

SIZE = 96  # px of a sprite's longer side
HELD_OUT_SHEET = Path(__file__).with_name("held_out.png")
SHEET_COLUMNS = 10

_FONT_SIZE = 109  # the only bitmap size in the font
_BLOCKS = (
    (0x231A, 0x23F3),
    (0x2600, 0x27BF),
    (0x2B50, 0x2B55),
    (0x1F300, 0x1F64F),
    (0x1F680, 0x1F6FF),
    (0x1F90C, 0x1F9FF),
    (0x1FA70, 0x1FAFF),
)
_MIN_FILL = 0.45  # share of the sprite's box that must be opaque: thin shapes are hard to recognise


def held_out_sprites() -> torch.Tensor:
    """Sprites that the model has never seen, ``[S, 4, SIZE, SIZE]`` uint8 RGBA."""
    sheet = torch.from_numpy(np.array(Image.open(HELD_OUT_SHEET).convert("RGBA")))
    rows = sheet.shape[0] // SIZE
    tiles = sheet.reshape(rows, SIZE, SHEET_COLUMNS, SIZE, 4).permute(0, 2, 4, 1, 3)
    tiles = tiles.reshape(-1, 4, SIZE, SIZE)
    return tiles[(tiles[:, 3] > 0).flatten(1).any(1)]


def render_font(font_path: str | Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Render every usable emoji: training sprites and held-out sprites, each ``[S, 4, SIZE, SIZE]`` uint8.

    Neighbouring code points are often twins (clock faces, moons), so whole runs of ten are held out.
    """
    font = ImageFont.truetype(str(font_path), _FONT_SIZE)
    sprites, seen = [], set()
    for first, last in _BLOCKS:
        for code_point in range(first, last + 1):
            sprite = _render(chr(code_point), font)
            if sprite is not None and sprite.tobytes() not in seen:
                seen.add(sprite.tobytes())
                sprites.append(torch.from_numpy(np.array(sprite)).permute(2, 0, 1))
    rendered = torch.stack(sprites)
    held_out = torch.arange(len(rendered)) // 10 % 10 == 4
    return rendered[~held_out], rendered[held_out]


def write_held_out_sheet(sprites: torch.Tensor) -> None:
    """Write ``held_out.png`` of sprites ``[S, 4, SIZE, SIZE]`` uint8, as ``held_out_sprites`` reads it (made once)."""
    rows = -(-len(sprites) // SHEET_COLUMNS)
    sheet = torch.zeros(rows * SHEET_COLUMNS, 4, SIZE, SIZE, dtype=torch.uint8)
    sheet[: len(sprites)] = sprites
    sheet = sheet.reshape(rows, SHEET_COLUMNS, 4, SIZE, SIZE).permute(0, 3, 1, 4, 2)
    pixels = sheet.reshape(rows * SIZE, SHEET_COLUMNS * SIZE, 4).numpy()
    Image.fromarray(pixels, "RGBA").save(HELD_OUT_SHEET, optimize=True)


def _render(character: str, font: ImageFont.FreeTypeFont) -> Image.Image | None:
    """The character cropped to its ink and centred in a square, or None if it is empty or too thin."""
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((12, 12), character, font=font, embedded_color=True)
    box = canvas.getchannel("A").getbbox()
    if box is None:
        return None
    ink = canvas.crop(box)
    scale = SIZE / max(ink.size)
    ink = ink.resize((max(1, round(ink.width * scale)), max(1, round(ink.height * scale))), Image.Resampling.LANCZOS)
    sprite = Image.new("RGBA", (SIZE, SIZE))
    sprite.paste(ink, ((SIZE - ink.width) // 2, (SIZE - ink.height) // 2))
    opaque = np.asarray(sprite.getchannel("A")) > 127
    colours = np.asarray(sprite)[opaque][:, :3]
    if opaque.mean() < _MIN_FILL or colours.std(axis=0).max() < 12:  # 'not defined' boxes, flat glyphs
        return None
    return sprite

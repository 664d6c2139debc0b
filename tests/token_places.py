"""Where the references and the picture are in the attention calls of every tiny graph: told by hand, not located."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tiny_graphs
import tiny_ltxv
import tiny_wan
from steered_graphs import tagged
from tiny_graphs import Graph, hunyuan_start

from i2am_pack.i2am_core import TokenGrid


@dataclass
class Tokens:
    """Where the references are in the steered calls of a graph: those of so many ``keys``."""

    graph: Graph
    keys: int
    picture: Sequence[int]  # rows, row by row on ``grid``
    grid: TokenGrid
    references: Sequence[Sequence[int]]  # columns of each, with those that have no place
    grids: Sequence[TokenGrid | None]
    places: Sequence[Sequence[int]] | None = None  # columns that have a place, where these are fewer
    drawn: Sequence[int] | None = None  # rows of the picture that are not the reference's own


def joint(make, keys, first, grid, references, grids, **shape):
    graph = make(**shape)
    return Tokens(graph, keys, range(first, first + grid.cells), grid, references, grids)


G43, G23 = TokenGrid(4, 3), TokenGrid(2, 3, 2)
TWO_GRIDS = (TokenGrid(2, 4), TokenGrid(3, 2))
CLIP = TokenGrid(16, 16)


def hidream():
    graph = tiny_graphs.hidream_e1(cfg=3.0)
    picture = [6 * y + x for y in range(4) for x in range(3)]
    return Tokens(graph, 24 + 21, picture, G43, [[cell + 3 for cell in picture]], [G43])


def uso():
    graph = tiny_graphs.flux_uso()
    return Tokens(graph, 192 + 7 + 12 + 8, range(199, 211), G43, [range(211, 219), range(192)], [TokenGrid(2, 4), None])


def hunyuan(make, keys, texts):
    graph = make()
    first = hunyuan_start(graph, texts)
    replaced = make is tiny_graphs.hunyuan_video_replace
    before, drawn = (0, range(first + 6, first + 12)) if replaced else (6, None)
    picture = range(first + before, first + before + 12)
    return Tokens(graph, keys, picture, G23, [range(first, first + 6)], [TokenGrid(2, 3)], drawn=drawn)


def hunyuan_15():
    graph = tiny_graphs.hunyuan_video_15(batch=2)
    first = hunyuan_start(graph, 743)
    vision = 0 if first else 48
    columns = range(vision, vision + 729)
    return Tokens(graph, 791, range(first, first + 48), TokenGrid(4, 6, 2), [columns], [TokenGrid(27, 27)])


def wan_images(make, images):
    columns = [range(257 * n, 257 * (n + 1)) for n in range(images)]
    places = [range(257 * n + 1, 257 * (n + 1)) for n in range(images)]
    return Tokens(make(), 257 * images, range(12), G23, columns, [CLIP] * images, places)


def wan_phantom():
    return joint(tiny_graphs.wan_phantom, 24, 0, G23, [range(12, 18), range(18, 24)], [TokenGrid(2, 3)] * 2)


def wan_s2v():
    references = [range(64, 96), range(96, 128), range(128, 136), range(136, 144)]
    grids = [TokenGrid(4, 8), TokenGrid(4, 8), TokenGrid(2, 4), TokenGrid(1, 2, 4)]
    return Tokens(tiny_wan.s2v(), 144, range(64), TokenGrid(4, 8, 2), references, grids)


def wan_scail():
    """Two images, of which the first is the one before the video, and poses of half the size after it."""
    references, grids = [range(24, 48), range(24), range(96, 108)], [TokenGrid(4, 6)] * 2 + [TokenGrid(2, 3, 2)]
    graph = tiny_wan.scail2(images=2, clip=False)
    return Tokens(graph, 108, range(48, 96), TokenGrid(4, 6, 2), references, grids)


def wan_bernini():
    graph, grids = tiny_wan.bernini(images=2, video=False), [TokenGrid(2, 3), TokenGrid(3, 3)]
    return Tokens(graph, 27, range(12), G23, [range(12, 18), range(18, 27)], grids)


def wan_animate():
    graph, grid = tiny_wan.animate(clip=False, cfg=3.0), TokenGrid(2, 3, 3)
    return Tokens(graph, 18, range(18), grid, [range(6)], [TokenGrid(2, 3)], drawn=range(6, 18))


TOKENS: dict[str, Callable[[], Tokens]] = {
    "kontext": lambda: joint(
        tiny_graphs.flux_kontext, 33, 7, G43, [range(19, 27), range(27, 33)], TWO_GRIDS, batch=2, cfg=3.0
    ),
    "kontext, two calls": lambda: joint(
        tiny_graphs.flux_kontext, 33, 7, G43, [range(19, 27), range(27, 33)], TWO_GRIDS, cfg=3.0, lengths=(7, 7)
    ),
    "flux2": lambda: joint(
        tiny_graphs.flux2_edit, 538, 512, G43, [range(524, 532), range(532, 538)], TWO_GRIDS, cfg=3.0
    ),
    "qwen": lambda: joint(tiny_graphs.qwen_edit, 33, 7, G43, [range(19, 27), range(27, 33)], TWO_GRIDS, cfg=3.0),
    "omnigen2": lambda: joint(
        tiny_graphs.omnigen2_edit, 33, 21, G43, [range(7, 15), range(15, 21)], TWO_GRIDS, cfg=3.0
    ),
    "hidream-e1": hidream,
    "redux": lambda: Tokens(
        tagged(tiny_graphs.flux_redux()), 748, range(736, 748), G43, [range(7, 736)], [TokenGrid(27, 27)]
    ),
    "redux by a bias": lambda: Tokens(
        tagged(tiny_graphs.flux_redux_bias()), 748, range(736, 748), G43, [range(7, 736)], [TokenGrid(27, 27)]
    ),
    "uso": uso,
    "wan i2v": lambda: wan_images(tiny_graphs.wan_i2v, 1),
    "wan flf2v": lambda: wan_images(tiny_graphs.wan_flf2v, 2),
    "wan phantom": wan_phantom,
    "wan fun": lambda: joint(tiny_graphs.wan_fun_reference, 18, 6, G23, [range(6)], [TokenGrid(2, 3)]),
    "wan vace": lambda: joint(tiny_graphs.wan_vace, 18, 6, G23, [range(6)], [TokenGrid(2, 3)]),
    "hunyuan custom": lambda: hunyuan(tiny_graphs.hunyuan_video_custom, 27, 9),
    "hunyuan padded": lambda: hunyuan(tiny_graphs.hunyuan_video_padded, 27, 9),
    "hunyuan replace": lambda: hunyuan(tiny_graphs.hunyuan_video_replace, 21, 9),
    "hunyuan 1.5": hunyuan_15,
    "ltxv guides": lambda: joint(
        tiny_ltxv.guides,
        40,
        0,
        TokenGrid(2, 4, 3),
        [range(24, 32), range(32, 40)],
        [TokenGrid(2, 4)] * 2,
        strengths=(1.0, 1.0),
    ),
    "wan animate": wan_animate,
    "wan s2v": wan_s2v,
    "wan scail 2": wan_scail,
    "wan bernini": wan_bernini,
}

"""An attribution as one safetensors file: all maps, and a JSON header that says what they are.

With ``<place>`` for ``<reference>/<layer>``, its tensors are (see ``LayerMaps``)

* ``maps/<place>/<key>``, float32 ``[items, bins, heads, cells]``; or float16, with the float32
  ``scale/maps/<place>/<key>`` ``[items, bins, heads, 1]`` (see ``Half``). Of the kinds with a scope: all or none;
* ``head_maps/<place>/<key>`` of the same kinds, ``[items, 1, heads, cells]``, in either precision, where the header's
  ``heads`` is 'over steps' or 'over steps and frames', in which case ``cells`` are those of one frame;
* ``seen/<place>`` float32 ``[bins]``;
* ``pair_rows/<place>`` int64 ``[A]`` and ``pairs/<place>/<key>`` float32 ``[items, A, M]``, where pair maps were kept;

* of effects, where there are any (see ``Effects``), all with ``effects/`` before their names: ``floor`` and
  ``maps/<step>/<owner>/<route>``, float32 ``[items, cells]``; ``regions/<reference>/<cut>``, float32 ``[items, regions,
  cells]``; ``predictions/<step>/<owner or 'nothing'>``, float32 or float16 ``[items, C, (frames,) h, w]``;

and ``pictures/<name>`` uint8 ``[H, W, 3]`` and ``denoise_mask`` float32 ``[items, h, w]``, where there are any.

The header is the metadata entry ``i2am``, with its ``version``. The entry ``i2am_checksum`` is of all that is read: the
header's text, and names, types, shapes and bytes of all tensors (``checksum.py``). Version 1 had no checksum, maps in
float32 alone, and in place of ``heads`` the boolean ``heads_kept``. Version 3 has
effects. Of these a reader of version 2 would say that the file is not valid; of the number it says that it is newer,
which is true. What has no effects is written as version 2, byte for byte as it was before there were any.

A file may come from anywhere. It is read once, whole, after what it says of its size was compared with what it has
(``container.py``); then nothing refers to it any more. All that later code relies on is checked (``reading.py``), and
what does not fit is refused in a sentence.

The package safetensors is imported when a file is read or written, so that the core can be used without it.
"""

from .header import SUFFIX, VERSION
from .reading import load
from .writing import save, save_new

__all__ = ["SUFFIX", "VERSION", "load", "save", "save_new"]

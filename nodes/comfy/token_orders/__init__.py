"""One file for each family of models; here they are listed."""

from collections.abc import Hashable, Iterable
from functools import cache

from ..blocks import Block
from ..located import CallSite, ModelCall, Skip
from .base import Sequence, TokenOrder
from .boogu import Boogu
from .flux import Chroma, Flux
from .hidream import HiDream
from .hidream_o1 import HiDreamO1
from .hunyuan_video import HunyuanVideo
from .joyimage import JoyImage
from .krea2 import Krea2
from .ltxv import LTXV
from .lumina import Lumina
from .mage_flow import MageFlow
from .minimax_h3 import MiniMaxH3
from .omnigen2 import OmniGen2
from .qwen_image import QwenImage
from .sd3 import SD3
from .unet import UNet
from .wan import Wan
from .wan_animate2 import WanAnimate2
from .wan_s2v import WanS2V
from .wan_scail import WanScail

ORDERS: dict[str, TokenOrder] = {
    order.family: order
    for order in (
        Flux(),
        Chroma(),
        QwenImage(),
        OmniGen2(),
        HiDream(),
        Lumina(),
        LTXV(),
        SD3(),
        UNet(),
        WanAnimate2(),
        WanS2V(),
        WanScail(),
        Wan(),
        HunyuanVideo(),
        Krea2(),
        Boogu(),
        JoyImage(),
        MageFlow(),
        HiDreamO1(),
        MiniMaxH3(),
    )
}


def order_of(family: Iterable[str]) -> TokenOrder | None:
    """The order of a denoiser, by the names of its class and of those it is made from."""
    return _order_of(frozenset(family))


@cache
def _order_of(family: frozenset[str]) -> TokenOrder | None:
    return next((order for name, order in ORDERS.items() if name in family), None)


def sequence_of(site: CallSite, call: ModelCall) -> Sequence | Skip:
    """The order of the tokens of this call, or why it is not known.

    Worked out once for each site, which is of one call: each mechanism that is in use needs it, and what locates text.
    """

    def work() -> Sequence | Skip:
        order = order_of(call.family)
        if order is None:
            return Skip(f"attention of a {type(call.denoiser).__name__}, whose order of tokens I2AM does not know")
        return order.sequence(site, call)

    sequence: Sequence | Skip = site.once("sequence", work)
    return sequence


def blocks_of(call: ModelCall) -> tuple[Block, ...]:
    """The blocks that the denoiser runs in this call; none where its family is not known."""
    order = order_of(call.family)
    return () if order is None else tuple(order.blocks(call.denoiser, call))


def variant_of(call: ModelCall) -> Hashable:
    """See ``TokenOrder.variant``."""
    order = order_of(call.family)
    return None if order is None else order.variant(call)


__all__ = ["ORDERS", "Sequence", "TokenOrder", "blocks_of", "order_of", "sequence_of", "variant_of"]

"""PyTorch's hooks on the blocks of a denoiser, which tell its forward pass what runs."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from torch.nn import Module
from torch.utils.hooks import RemovableHandle

from .blocks import Blocks
from .eager import eager
from .forward_pass import ForwardPass


class Running(threading.local):
    """The forward pass of this thread: ComfyUI may run the chunks of one step in several."""

    forward: ForwardPass | None = None


class BlockHooks:
    """Hooks on the blocks of the denoisers of one run: there may be several, one for each GPU.

    They do nothing where no forward pass is ``running``: a compiler may keep one in its graph for longer than it lasts.
    ``skipping`` is around what they do, and makes a note of an error in it: see ``Engine.following``.
    """

    def __init__(self, running: Running, skipping: Callable[[], AbstractContextManager]) -> None:
        self._hooked: set[Module] = set()
        self._handles: list[RemovableHandle] = []

        def before(module: Module, args: tuple) -> None:
            if running.forward is not None:
                with skipping():
                    running.forward.enter(module)

        def after(module: Module, args: tuple, output: Any) -> None:
            if running.forward is not None:
                with skipping():
                    running.forward.leave(module, output)

        self._before, self._after = eager(before), eager(after)

    def put_on(self, blocks: Blocks) -> None:
        """Hook the modules of these blocks and of their parts, each once."""
        for module in {*blocks.blocks, *blocks.parts, *blocks.keys} - self._hooked:
            self._hooked.add(module)
            self._handles.append(module.register_forward_pre_hook(self._before))
            self._handles.append(module.register_forward_hook(self._after, always_call=True))

    def remove(self) -> None:
        """Take all hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._hooked.clear()

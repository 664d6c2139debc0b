"""Stand-ins for packages that are imported at start-up and not needed: they raise when used.

torchvision and torchaudio have no build that loads beside every torch; ComfyUI and its libraries import them at
start-up without using them. Attributes of a stand-in are stand-ins: what is looked up while importing goes through.
"""

import functools
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType


class StandInType(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return stand_in(f"{cls.__qualname__}.{name}")

    def __call__(cls, *args, **kwargs):
        raise RuntimeError(f"{cls.__qualname__} is not on this host: scripts/devenv put a placeholder in its place")


@functools.cache
def stand_in(name):
    return StandInType(name, (), {"__module__": __name__, "__qualname__": name})


def fill(package, modules):
    """Give an imported, empty package its stand-ins, and these modules below it."""
    package.__version__ = "0.0.0"
    package.__getattr__ = attributes(package.__name__)
    for name in modules:
        parent, _, own_name = f"{package.__name__}.{name}".rpartition(".")
        module = ModuleType(f"{parent}.{own_name}")
        module.__spec__ = ModuleSpec(module.__name__, None, is_package=True)
        module.__path__ = []
        module.__getattr__ = attributes(module.__name__)
        setattr(sys.modules[parent], own_name, module)
        sys.modules[module.__name__] = module


def attributes(module):
    def look_up(name):
        if name.startswith("__"):
            raise AttributeError(name)
        return stand_in(f"{module}.{name}")

    return look_up

"""The earlier name of ``files``."""

from .files import SUFFIX, load, save

__all__ = ["SUFFIX", "load", "save"]

"""What is done with located references: one file for each consumer. ``record`` looks, ``steer`` acts."""

from .base import Consumer, LocatedIn
from .record import Record
from .steer import Steer

__all__ = ["Consumer", "LocatedIn", "Record", "Steer"]

"""What is done with located references: one file for each consumer. ``record`` looks; others may act."""

from .base import Consumer, LocatedIn
from .record import Record

__all__ = ["Consumer", "LocatedIn", "Record"]

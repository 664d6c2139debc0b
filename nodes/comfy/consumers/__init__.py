"""What is done with the references that were found: one file each. ``record`` looks; others may act."""

from .base import Consumer, LocatedIn
from .record import Record

__all__ = ["Consumer", "LocatedIn", "Record"]

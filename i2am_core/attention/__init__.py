"""From queries and keys of one attention call to its attribution."""

from .marginals import Logits, Marginals, Positions, attribute, split_heads

__all__ = ["Logits", "Marginals", "Positions", "attribute", "split_heads"]

"""From a finished attribution to maps and numbers."""

"""From queries and keys of one attention call to its attribution."""

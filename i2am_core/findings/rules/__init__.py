"""One rule a file: what it needs, when it holds, and its sentences."""

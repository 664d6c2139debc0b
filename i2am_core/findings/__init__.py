"""What is wrong, or right, with what a reference did, in plain words: one rule a file, each with its baseline."""

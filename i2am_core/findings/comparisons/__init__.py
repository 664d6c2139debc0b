"""What changed from one run to another: one file for each thing that is compared, as ``rules`` has one a rule."""

"""What the user sees: each node is a form over ``i2am_core``."""

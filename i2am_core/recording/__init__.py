"""While a sampler runs: sums over its attention calls, within a budget of memory."""

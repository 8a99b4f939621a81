"""From noise to data: each sampler is one way down a falling sequence of times."""

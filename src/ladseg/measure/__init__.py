"""Time, peak memory, multiply-accumulates and the environment of a measurement."""

"""Slow twins in float64: formulas written out with loops, for the fast paths to be compared with."""

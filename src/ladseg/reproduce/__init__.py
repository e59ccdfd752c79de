"""Reproduce each of the paper's tables and its Figure 4 by one command."""

"""Figures as text, the same in every table."""


def gmacs(macs: int) -> str:
    """Return multiply-accumulates in units of 10^9: two places, or two digits where those would be zeros."""
    value = macs / 1e9
    return f"{value:.2f}" if value >= 0.1 or not macs else f"{value:.2g}"

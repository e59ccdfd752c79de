"""Methods side by side: what they are, what they cost, what they reached."""

from .compare import compare as compare
from .summary import read_comparison as read_comparison

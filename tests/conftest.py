"""What holds for every test."""

import os

# Workers side by side have a core each; threads of several processes on the same cores wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_draws_in_any_order() -> None:
    """A test's weights and inputs depend neither on the tests before it nor on the day."""
    torch.manual_seed(0)

"""What holds for every test."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_draws_in_any_order() -> None:
    """A test's weights and inputs depend neither on the tests before it nor on the day."""
    torch.manual_seed(0)

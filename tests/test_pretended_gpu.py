"""On a GPU a step mixes no tensors of host and device, and has the host wait for none, found without a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

from tests import pretended_gpu

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
        reason="this torch can't pretend a device",
    ),
]
EXPECTED = {
    "wrong/mixed": "FakeTensorDeviceMismatchError",
    "wrong/waited for": "DataDependentOutputException",
    # Its memories take as many vectors as a batch happens to have of each class.
    "method/cirkd": "DynamicOutputShapeException",
}


@pytest.fixture(scope="module")
def faults() -> dict[str, str | None]:
    command = [sys.executable, "-m", "tests.pretended_gpu"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result: dict[str, str | None] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("case", pretended_gpu.CASES)
def test_all_is_on_the_device(case: str, faults: dict[str, str | None]) -> None:
    fault = faults[case]
    assert (fault and fault.split(":")[0]) == EXPECTED.get(case), fault

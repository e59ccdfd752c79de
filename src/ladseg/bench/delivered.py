"""Measure the time of delivered and exported networks for one image on the CPU."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ladseg.deploy.export_graph import Deployed, FixedSize
from ladseg.deploy.exported_file import ExportedFile, is_exported, open_exported
from ladseg.deploy.student_file import delivered_file, load_student, read_header, refuse_other_model
from ladseg.errors import UserError
from ladseg.measure.timing import in_turns
from ladseg.results import STUDENT

SIZES = ((256, 512), (512, 1024))
# Number of timed images at each size, and the seconds after which no more are timed.
ROUNDS, PATIENCE = 50, 60.0


@dataclass(frozen=True)
class Runnable:
    """A network to time: its name, its bytes, the channels and sizes that it takes, and the function that runs it."""

    name: str
    bytes: int
    channels: int
    takes: Callable[[int, int], bool]
    run: Callable[[Tensor], object]


def is_delivered(name: str) -> bool:
    """Return whether a word on the command line names a file or a run's folder, and not a network."""
    return is_exported(name) or Path(name).suffix == ".safetensors" or (Path(name) / STUDENT).is_file()


def bench_delivered(
    files: Sequence[str],
    sizes: Sequence[tuple[int, int]] | None = None,
    threads: int | None = None,
    model: str | None = None,
) -> dict[str, Any]:
    """Time files in turns on the CPU, from the image ``(1, C, H, W)`` to the file's output.

    The weights in torch are timed too, if they are among the files or in the same folder as the first one. They do the
    same work as the first exported file: normalise inside or not, and return logits or class ids.

    Args:
        files: Exported files, ``student.safetensors`` or folders of runs.
        sizes: Heights and widths; None for :data:`SIZES`, or for the size of files that take a single size.
        threads: Number of threads of the runtimes; None leaves the choice to them.
        model: The name of the network, if it is not one of ladseg's; see :func:`ladseg.load`.

    Returns:
        ``threads``, and ``latency``: rows of ``file``, ``size``, ``p50`` and ``p95`` in milliseconds, number of timed
        ``images`` and ``bytes``; ``p50`` and ``p95`` are None if the file does not take the size.

    Raises:
        UserError: A file can't be used, or no file takes any of the sizes.
    """
    exported = [open_exported(name, threads) for name in files if is_exported(name)]
    weights = [delivered_file(name) for name in files if not is_exported(name)]
    beside = exported and not weights and exported[0].path.parent / STUDENT
    if beside and beside.is_file():
        weights = [beside]
    fixed = sorted({(file.sizes.height, file.sizes.width) for file in exported if isinstance(file.sizes, FixedSize)})
    headers = {path: read_header(path) for path in weights}
    if model is not None and model not in {
        header.model for header in (*headers.values(), *(f.header for f in exported))
    }:
        first = exported[0].header if exported else headers[weights[0]]
        refuse_other_model(files[0], first, model)
    like = exported[0] if exported else None
    runnables = [_exported(file) for file in exported]
    runnables += [_in_torch(path, like, model if header.model == model else None) for path, header in headers.items()]
    rows = []
    with _threads(threads):
        for size in sizes or fixed or SIZES:
            rows += _rows(runnables, size)
    if all(row["p50"] is None for row in rows):
        raise UserError(f"{files[0]}: takes none of these sizes; it takes {exported[0].sizes}")
    return {"threads": threads, "latency": rows}


def _exported(file: ExportedFile) -> Runnable:
    return Runnable(str(file.path), file.bytes, file.header.channels, file.sizes.take, file.run)


def _in_torch(path: Path, like: ExportedFile | None, model: str | None) -> Runnable:
    network, header = load_student(path, model)
    deployed = Deployed(network, bool(like and like.normalizes), bool(like and like.gives_ids)).eval()
    deployed.to(memory_format=torch.channels_last)
    return Runnable(
        str(path), path.stat().st_size, header.channels, lambda height, width: True, torch.inference_mode()(deployed)
    )


def _rows(runnables: list[Runnable], size: tuple[int, int]) -> list[dict[str, Any]]:
    runs = {item.name: _bound(item.run, torch.rand(1, item.channels, *size)) for item in runnables if item.takes(*size)}
    seconds = in_turns(runs, torch.device("cpu"), ROUNDS, PATIENCE)
    rows = []
    for item in runnables:
        times = seconds.get(item.name, [])
        p50, p95 = (1e3 * np.percentile(times, [50, 95])).tolist() if times else (None, None)
        facts = {"file": item.name, "size": list(size), "p50": p50, "p95": p95, "images": len(times)}
        rows.append({**facts, "bytes": item.bytes})
    return rows


def _bound(run: Callable[[Tensor], object], image: Tensor) -> Callable[[], object]:
    return lambda: run(image)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Within the context, set torch's number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)

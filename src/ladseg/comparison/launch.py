"""Start the workers of a comparison, as local processes or as an array of Slurm jobs."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ladseg.errors import UserError, first_words
from ladseg.files import make_folder
from ladseg.runs.finished import Log

# The folder of the workers' logs, below the comparison's folder.
FOLDER = "workers"


def launch(where: str, words: Sequence[str], folder: Path, slurm: Mapping[str, Any], log: Log = print) -> bool:
    """Start workers.

    Args:
        where: ``local:N`` or ``slurm:N``, for N workers.
        words: The command line of one worker, after ``ladseg``.
        folder: The comparison's folder; logs are written below it.
        slurm: Settings of submitit, such as ``slurm_partition`` and ``timeout_min``.
        log: Receives lines about the workers.

    Returns:
        Whether the workers have ended; Slurm jobs are only submitted.

    Raises:
        UserError: ``where`` has another form, submitit is not installed, or a worker has failed.
    """
    kind, _, count = where.partition(":")
    if kind not in ("local", "slurm") or not (count.isascii() and count.isdigit() and int(count) > 0):
        raise UserError(f"--launch is '{where}'; write local:2 or slurm:8, with the number of workers")
    if kind == "slurm":
        submit(words, folder, int(count), "slurm", slurm, log)
        return False
    _run_here(words, folder, int(count), log)
    return True


def command_of(words: Sequence[str]) -> list[str]:
    """Return the command of one worker."""
    return [sys.executable, "-m", "ladseg", *words, "--worker"]


def _run_here(words: Sequence[str], folder: Path, count: int, log: Log) -> None:
    logs = folder / FOLDER
    make_folder(logs)
    processes = []
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if os.environ.get("CUDA_VISIBLE_DEVICES") else _gpus()
    for number in range(count):
        own = {**os.environ, **({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {})}
        with open(logs / f"worker-{number}.log", "a") as file:
            processes.append(subprocess.Popen(command_of(words), stdout=file, stderr=subprocess.STDOUT, env=own))
    log(f"{count} workers are training; their logs: {logs}")
    try:
        codes = [process.wait() for process in processes]
    except KeyboardInterrupt:
        for process in processes:
            process.wait()  # Ctrl-C has reached the workers too
        raise
    failed = [number for number, code in enumerate(codes) if code]
    if failed:
        raise UserError(f"worker {failed[0]} of {count} failed: see {logs / f'worker-{failed[0]}.log'}")


def _gpus() -> list[str]:
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def submit(
    words: Sequence[str], folder: Path, count: int, cluster: str, settings: Mapping[str, Any], log: Log
) -> list[Any]:
    """Submit an array of workers through submitit, and return its jobs; a preempted worker is queued again.

    Raises:
        UserError: submitit is not installed or does not know a setting.
    """
    try:
        import submitit
    except ImportError:
        raise UserError("--launch slurm needs submitit: pip install 'ladseg[slurm]'") from None
    try:
        executor = submitit.AutoExecutor(folder=folder / FOLDER, cluster=cluster)
        executor.update_parameters(name=f"ladseg-{folder.name}", **settings)
    except (TypeError, NameError, ValueError, RuntimeError) as error:
        raise UserError(f"--launch {cluster}: {first_words(error)}") from None
    with executor.batch():
        jobs = [executor.submit(Worker(command_of(words), str(Path.cwd()))) for _ in range(count)]
    log(f"submitted {count} workers: {', '.join(job.job_id for job in jobs)}; their logs: {folder / FOLDER}")
    log(f"when they have ended, summarise with: {shlex.join(['ladseg', *words])}")
    return jobs


class Worker:
    """One worker as a submitit job.

    Args:
        command: The command to run.
        folder: The working directory.
    """

    def __init__(self, command: Sequence[str], folder: str) -> None:
        self.command = list(command)
        self.folder = folder

    def __call__(self) -> int:
        return subprocess.run(self.command, cwd=self.folder, check=True).returncode

    def checkpoint(self) -> Any:
        """Return the same work, which submitit queues again when the job is preempted."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

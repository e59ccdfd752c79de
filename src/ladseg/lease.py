"""Leases, by which processes on machines that share a folder agree who does a piece of work.

A lease is a file that only one process can create, and that its holder touches regularly. If it has not been touched
for a while, its holder has died or lost its network, and another process takes it over. This needs no file-system
locks, so it works on network file systems too.
"""

import json
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from types import TracebackType

from ladseg.errors import UserError
from ladseg.files import make_folder

# Seconds between two touches, and seconds without a touch after which a lease is free.
BEAT, PATIENCE = 10.0, 90.0
NAME = ".lease"


class Lease:
    """The right to work in a folder.

    Args:
        folder: The folder; it is created if missing.
        beat: Seconds between two touches.
        patience: Seconds without a touch after which others may take the lease over; several times ``beat``.
    """

    def __init__(self, folder: Path, beat: float = BEAT, patience: float = PATIENCE) -> None:
        self.path = folder / NAME
        self.beat = beat
        self.patience = patience
        self._own: str | None = None
        self._stop = threading.Event()

    def acquire(self) -> bool:
        """Take the lease if it is free, without waiting; return whether this process holds it."""
        make_folder(self.path.parent)
        if self.is_held():
            return False
        if self.path.exists() and not self._remove_dead():
            return False
        own = json.dumps({**_this_process(), "nonce": secrets.token_hex(8)})
        if not _create(self.path, own):
            return False
        self._own = own
        self._stop.clear()
        threading.Thread(target=self._keep, daemon=True).start()
        return True

    def wait(self, poll: float = 1.0) -> None:
        """Take the lease as soon as it is free."""
        while not self.acquire():
            time.sleep(poll)

    def release(self) -> None:
        """Give the lease back."""
        self._stop.set()
        if self._own is not None and _read(self.path) == self._own:
            self.path.unlink(missing_ok=True)
        self._own = None

    def is_held(self) -> bool:
        """Return whether a living process, this one included, holds the lease."""
        holder = _read(self.path)
        if holder is None:
            return False
        return not (_has_died(holder) or _age(self.path) > self.patience)

    def holder(self) -> str:
        """Return who holds the lease, for a message: ``process 17 on HOST``."""
        known = _parsed(_read(self.path) or "")
        return f"process {known.get('pid', '?')} on {known.get('host', 'another machine')}"

    def __enter__(self) -> "Lease":
        if self._own is None:
            self.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _keep(self) -> None:
        while not self._stop.wait(self.beat):
            if _read(self.path) != self._own:
                return  # another process took it over while this one was suspended
            try:
                os.utime(self.path)
            except OSError:
                return

    def _remove_dead(self) -> bool:
        """Remove a lease whose holder is dead; return False if another process is doing so at this moment."""
        guard = self.path.with_name(f"{NAME}.takeover")
        if guard.exists() and _age(guard) > self.patience:
            guard.unlink(missing_ok=True)  # its creator died within these few lines
        if not _create(guard, ""):
            return False
        try:
            # A process that was here earlier may have taken the lease in the meantime.
            if self.is_held():
                return False
            self.path.unlink(missing_ok=True)
            return True
        finally:
            guard.unlink(missing_ok=True)


def _age(path: Path) -> float:
    """Return the seconds since the last touch by the file system's clock, because the machines' clocks differ."""
    probe = path.with_name(f"{NAME}.{secrets.token_hex(8)}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def _create(path: Path, text: str) -> bool:
    """Create a file if it does not exist; return whether this call created it."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise UserError(f"{path}: can't be written ({error.strerror}); make room or write to another place") from None
    return True


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


def _parsed(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _this_process() -> dict[str, object]:
    """Return what identifies this process among all others, including later ones with the same pid."""
    return {"host": socket.gethostname(), "system": _system(), "pid": os.getpid(), "started": _started(os.getpid())}


def _system() -> str:
    """Return an id that processes share if they see each other's pids: of this boot and this container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return secrets.token_hex(8)  # other processes can't be identified, so only the touches count


def _started(pid: int) -> str | None:
    """Return when a process of this system started, in clock ticks; None if no process has this pid."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]  # a zombie does not run


def _has_died(holder: str) -> bool:
    """Return whether the holder ran on this system and has ended; False if this can't be determined."""
    known = _parsed(holder)
    if known.get("system") != _system() or not isinstance(known.get("pid"), int):
        return False
    return _started(int(str(known["pid"]))) != known.get("started")

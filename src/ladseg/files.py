"""Write files that are either complete or absent, even if the process is killed."""

import errno
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ladseg.errors import UserError

# How much of a file's name its temporary name repeats; file systems limit names to 255 bytes.
STEM = 40
TEMPORARY = re.compile(r"\..*\.\d+-[0-9a-f]{8}\.tmp(\..*)?")
# Age in seconds that a temporary file can only have if its writer was killed.
ABANDONED = 3600
# Free bytes below which a file system counts as full.
FULL = 1 << 20


def write_atomically(path: Path | str, write: Callable[[Path], object], size: int = 0) -> None:
    """Call ``write`` with a temporary file beside ``path``, flush the file to disk, then rename it to ``path``.

    The temporary name can't be guessed. It keeps the suffix, by which image and figure writers choose the format. The
    file gets the permissions of a new file of this process, whatever ``write`` does.

    Args:
        path: The file.
        write: Writes to the path that it is given.
        size: Bytes that the file will need, for the message about a full disk; 0 if unknown.

    Raises:
        UserError: The file's folder can't be made or written to, a folder is in its place, or the disk is full.
    """
    path = Path(path)
    make_folder(path.parent)
    if path.is_dir():
        raise UserError(f"{path}: is a folder, but a file of this name is to be written; move it away")
    temporary = path.with_name(f".{path.stem[:STEM]}.{os.getpid()}-{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        permissions = _create(temporary)
        write(temporary)
        os.chmod(temporary, permissions)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        # An error that names another file does not concern the file that is written.
        if error.filename is not None and os.fspath(error.filename) != str(temporary):
            raise
        raise _cant_write(path, error.strerror or str(error), size) from error
    except UserError:
        raise
    except Exception as error:
        # Libraries that write files themselves raise different errors on a full disk.
        reason = _refusal(path.parent, size)
        if reason is None:
            raise
        raise _cant_write(path, reason, size) from error
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder with those above it, unless it is there.

    Raises:
        UserError: It can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: this folder can't be made ({error.strerror}); write to another place") from None


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text with :func:`write_atomically`."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="backslashreplace"))


def remove_abandoned(folder: Path, seconds: float = ABANDONED) -> None:
    """Delete the temporary files that killed processes left in a folder.

    Args:
        folder: The folder; its subfolders are not searched.
        seconds: The least age of the files to delete; 0 if no other process can be writing.
    """
    for path in folder.glob(".*.tmp*"):
        if TEMPORARY.fullmatch(path.name) and time.time() - path.lstat().st_mtime >= seconds:
            path.unlink(missing_ok=True)


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder and below it."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _create(path: Path) -> int:
    """Create an empty file where nothing exists, not even a link, and return its permissions."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return os.fstat(descriptor).st_mode & 0o777
    finally:
        os.close(descriptor)


def _refusal(folder: Path, size: int) -> str | None:
    """Return why the file system refuses a file of this size; None if it accepts one.

    A trial file tells, because a quota or a limit on file sizes may refuse it while the disk has room.
    """
    try:
        if shutil.disk_usage(folder).free < max(size, FULL):
            return "no space left"
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
    except OSError as error:
        return None if error.errno in (errno.EOPNOTSUPP, errno.EINVAL) else error.strerror
    return None


def _cant_write(path: Path, reason: str, size: int) -> UserError:
    needed = f"about {_megabytes(size)} MB are needed, " if size else ""
    try:
        free = f"; {needed}{_megabytes(shutil.disk_usage(path.parent).free)} MB are free there"
    except OSError:
        free = f"; {needed}and the folder is gone" if size else ""
    return UserError(f"{path}: can't be written ({reason}){free}; make room or write to another place")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}" if 1e5 <= size < 1e7 else f"{size / 1e6:.0f}"

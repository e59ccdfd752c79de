"""Write files that are either complete or absent, even if the process is killed."""

import os
import re
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from ladseg.errors import UserError

# The longest part of a file's own name that its temporary name repeats: names have at most 255 bytes.
STEM = 40
TEMPORARY = re.compile(r"\..*\.\d+-[0-9a-f]{8}\.tmp(\..*)?")
# No write takes as long (seconds).
ABANDONED = 3600
# What a file system with less free space (bytes) can't take any more.
FULL = 1 << 20


def write_atomically(path: Path | str, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a temporary file beside ``path``, flush the file to disk, then rename it to ``path``.

    The temporary name can't be guessed, and keeps the suffix, because image and figure writers choose the format by it.
    The file gets the permissions of any new file of this process, whatever ``write`` does.

    Raises:
        UserError: Its folder can't be made or written to, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: its folder can't be made ({error.strerror}); write to another place") from None
    temporary = path.with_name(f".{path.stem[:STEM]}.{os.getpid()}-{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        permissions = _create(temporary)
        write(temporary)
        os.chmod(temporary, permissions)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        # An error that names another file is about what is written, not about where to.
        if error.filename not in (None, str(temporary)):
            raise
        raise _cant_write(path, error.strerror or str(error)) from error
    except UserError:
        raise
    except Exception as error:
        # Libraries that write by themselves have words of their own for a full disk.
        if not _is_full(path.parent):
            raise
        raise _cant_write(path, "no space left") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text with :func:`write_atomically`."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="backslashreplace"))


def remove_abandoned(folder: Path) -> None:
    """Delete the temporary files that processes left in a folder when they were killed, an hour ago or longer."""
    for path in folder.glob(".*.tmp*"):
        if TEMPORARY.fullmatch(path.name) and time.time() - path.lstat().st_mtime > ABANDONED:
            path.unlink(missing_ok=True)


def _create(path: Path) -> int:
    """Make an empty file that was not there, not even as a link, and return its permissions."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return os.fstat(descriptor).st_mode & 0o777
    finally:
        os.close(descriptor)


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < FULL
    except OSError:  # the folder is gone
        return False


def _cant_write(path: Path, reason: str) -> UserError:
    try:
        free = f"; {shutil.disk_usage(path.parent).free / 1e6:.0f} MB are free there"
    except OSError:
        free = ""
    return UserError(f"{path}: can't be written ({reason}){free}; make room or write to another place")

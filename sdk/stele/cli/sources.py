"""What commands read: documents from the command line, files, .gz files, and standard input."""

from __future__ import annotations

import gzip
import io
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import msgspec

from stele.cli.exits import InputError, UsageError
from stele.cli.standard_input import standard_input

STANDARD_INPUT = "-"
DOCUMENT_SIZE_BYTES_MAX = 64 * 1024 * 1024
"""What is read into memory at once; the server's limits are lower."""


@dataclass(frozen=True, slots=True)
class Source:
    """An open input. `raw` is the file below any compression, `size_bytes` its size where it has one."""

    name: str
    stream: BinaryIO
    raw: BinaryIO
    size_bytes: int | None

    @property
    def rewindable(self) -> bool:
        return self.size_bytes is not None

    def rewind(self) -> None:
        self.stream.seek(0)

    def position_bytes(self) -> int | None:
        """How far the file has been read; None for a source without a size, such as a pipe."""
        return self.raw.tell() if self.rewindable else None


@contextmanager
def opened(path: str) -> Iterator[Source]:
    """Opens a file, a .gz file, or standard input for "-". Raises InputError, also for what reading finds."""
    try:
        if path == STANDARD_INPUT:
            with standard_input() as stream:
                yield Source(path, stream, stream, None)
            return
        with open(path, "rb") as raw:
            status = os.fstat(raw.fileno())
            size_bytes = status.st_size if stat.S_ISREG(status.st_mode) else None
            if path.endswith(".gz"):
                with gzip.open(raw, "rb") as unpacked:
                    yield Source(path, io.BufferedReader(unpacked), raw, size_bytes)
            else:
                yield Source(path, raw, raw, size_bytes)
    except ConnectionError:
        raise  # of standard output or the network, not of this input
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"cannot read {path}: {reason}") from error


def read_data(argument: str | None) -> msgspec.Raw:
    """A document's JSON text from an argument: the text itself, @file, or "-" for standard input.

    Without an argument, standard input is read unless it is a terminal. The text goes to the server as it
    is: what is wrong with it is for the server to say.
    """
    if argument is None:
        if sys.stdin.isatty():
            raise UsageError("give the document as JSON, as @file, or on standard input")
        argument = STANDARD_INPUT
    if argument != STANDARD_INPUT and not argument.startswith("@"):
        return msgspec.Raw(argument.encode("utf-8", "surrogateescape"))
    return msgspec.Raw(read_whole(argument.removeprefix("@")))


def read_whole(path: str) -> bytes:
    """A whole file or standard input. Raises InputError."""
    with opened(path) as source:
        data = source.stream.read(DOCUMENT_SIZE_BYTES_MAX + 1)
        if len(data) > DOCUMENT_SIZE_BYTES_MAX:
            raise InputError(f"{source.name} is larger than {DOCUMENT_SIZE_BYTES_MAX} bytes")
        return data

"""What the serving process and its loading child say to each other, and how: pickles behind their length.

Both ends are the same program and nobody else holds the pipe. Nothing here may import YAML or dnslib: the serving
process does without them.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple, Protocol

from meshdns.resolver.serve.settings import TableSettings
from meshdns.resolver.source.problem import Problem
from meshdns.resolver.table.row import Common

ROWS_PER_FRAME: Final = 500
"""One frame is taken over in one turn of the serving loop."""

END: Final = b""
"""What stands after the last batch of rows: the table is complete, and nobody need wait for the memo."""

LENGTH: Final = struct.Struct("!I")


class Request(NamedTuple):
    """What a child is to build. `memo` is what the last child left behind; nobody else reads it."""

    settings: TableSettings
    search: tuple[str, ...]
    generation: int
    memo: bytes


class Changes(NamedTuple):
    """How the hosts of a new table differ from those of the last one."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


class Summary(NamedTuple):
    """What a load came to, besides the rows. Counts of leases are of pairs; `ignored` of documents by their kind."""

    common: Common
    problems: tuple[Problem, ...]
    reports: tuple[str, ...]
    changes: Changes
    entries: int
    used: int
    free: int
    resting: int


class Writer(Protocol):
    """The pipe's end to write to."""

    def write(self, data: bytes, /) -> object:
        """Write all of it."""


def write(stream: Writer, value: Any) -> None:  # noqa: ANN401 - a Request, a Summary, rows, or a memo
    """Write one frame."""
    import pickle  # noqa: PLC0415 - where nothing has changed no child is started

    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    stream.write(LENGTH.pack(len(data)) + data)


class Reader(Protocol):
    """The pipe's end to read from."""

    def read(self, size: int, /) -> bytes:
        """Read up to `size` bytes; fewer only at the end."""


def read(stream: Reader) -> Any:  # noqa: ANN401 - see `write`
    """Read one frame; EOFError when the other side is gone."""
    prefix = stream.read(LENGTH.size)
    if len(prefix) < LENGTH.size:
        raise EOFError
    return loaded(stream.read(LENGTH.unpack(prefix)[0]))


def loaded(data: bytes) -> Any:  # noqa: ANN401 - see `write`
    """Return what is in a frame; ValueError where nothing is."""
    import pickle  # noqa: PLC0415 - as above

    try:
        return pickle.loads(data)  # noqa: S301 - nobody else holds the pipe
    except pickle.PickleError as error:
        raise ValueError(f"a frame that cannot be read: {error}") from error

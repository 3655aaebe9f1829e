"""Panics of libraries that are written in Rust, as ordinary errors."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def panics_caught() -> Iterator[None]:
    """Raise ValueError for a panic in the block, without the report that Rust prints of it.

    It is printed before anybody can catch the panic, so what is written to descriptor 2 meanwhile is held back; all of
    it but the report of a panic is written at the end. One thread at a time, and for short blocks only.
    """
    try:
        stderr = os.dup(2)
    except OSError:
        stderr = os.open(os.devnull, os.O_WRONLY)
    panicked = False
    with tempfile.TemporaryFile() as held:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException as error:
            # Its class is made anew by each library, and is no Exception.
            panicked = type(error).__name__ == "PanicException"
            if not panicked:
                raise
            raise ValueError(f"its native code panicked: {error}") from None
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            if not panicked:
                os.write(2, held.read())

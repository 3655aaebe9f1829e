"""The standard streams as every command can use them: open, and able to show any text."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys

_ESCAPED = "gpt_tasks.escaped"


def prepare_streams() -> None:
    """Take /dev/null for a standard stream that is closed, and escape what a stream's encoding lacks.

    The escapes are those of JSON, so that an object that a command prints stays one.
    """
    codecs.register_error(_ESCAPED, _escaped)
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        stream = getattr(sys, name)
        if stream is None:
            # Also the descriptor, to which libraries write, and which the next file would get.
            null = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - open until the end
            if not _is_open(descriptor):
                os.dup2(null.fileno(), descriptor)
            setattr(sys, name, null)
            setattr(sys, f"__{name}__", null)
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPED)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end

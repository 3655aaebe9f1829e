"""What comes through stdin."""

from __future__ import annotations

import io
import sys

from gpt_tasks.errors import DataError


def stdin_text() -> str:
    """Return all of stdin. Raises DataError, naming the line, where it is not in the terminal's encoding."""
    if not isinstance(sys.stdin, io.TextIOWrapper):
        return sys.stdin.read()
    content, encoding = sys.stdin.buffer.read(), sys.stdin.encoding
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"stdin:{line}: byte {content[error.start]:#04x} is not {encoding.upper()}", "Convert the text to UTF-8."
        ) from error
    return io.TextIOWrapper(io.BytesIO(content), encoding).read()

"""The header of a GGUF file: its metadata and where its tensors are, checked against the file's own size.

The layout is that of the GGUF specification (ggml/docs/gguf.md), versions 2 and 3, little-endian.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

from gpt_tasks.errors import ModelError

SUFFIX = ".gguf"
MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_DIMENSIONS = 4
_ALIGNMENT = 32
_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf")
_WHOLE = "Copy or download it again."


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor's bytes are: `shape` in torch's order, `kind` a `gguf.GGMLQuantizationType`."""

    name: str
    shape: tuple[int, ...]
    kind: Any
    offset: int
    row_bytes: int
    """The bytes of one row, which is the last dimension."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says of itself. Of an array in the metadata there is the length."""

    file: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def architecture(self) -> str:
        """The kind of model, by llama.cpp's name for it."""
        return str(self.metadata.get("general.architecture", ""))


def only_file(folder: Path) -> Path | None:
    """Return the GGUF file of a folder that has one; None where it has none. Raises ModelError for several."""
    found = sorted(path for path in folder.glob(f"*{SUFFIX}") if path.is_file())
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:3])
        raise ModelError(f"{folder}: holds {len(found)} models in GGUF: {names}", "Give the file itself.")
    return found[0] if found else None


def read_header(file: Path) -> Header:
    """Read the header of a GGUF file; nothing of its tensors.

    Raises ModelError where the file is truncated, is in parts, or is none; where a tensor does not fit into it, or is
    of a kind that the package gguf does not know; and where that package is not installed.
    """
    if find_spec("gguf") is None:
        raise ModelError(f"{file}: to read it, gguf is missing", "Install it: pip install 'gpt-tasks[gguf]'")
    parts = _PART.search(file.name)
    if parts and int(parts[1]) > 1:
        raise ModelError(
            f"{file}: one of {int(parts[1])} parts of a model", "Join them with llama.cpp: llama-gguf-split --merge."
        )
    try:
        with file.open("rb") as opened:
            if opened.read(len(MAGIC)) != MAGIC:
                raise ModelError(f"{file}: not a GGUF file: it does not begin with GGUF", _WHOLE)
            with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _Reader(file, content).header()
    except OSError as error:
        raise ModelError(f"{file}: {error.strerror or error}", "Check the file.") from error


class _Reader:
    """Walks along a header. Every length is compared with what is left of the file before it is used."""

    def __init__(self, file: Path, content: mmap.mmap) -> None:
        self.file = file
        self.content = content
        self.place = len(MAGIC)

    def header(self) -> Header:
        version = self.number("I")
        if version not in _VERSIONS:
            raise ModelError(
                f"{self.file}: version {version} of GGUF; versions {_VERSIONS[0]} and {_VERSIONS[1]} are read",
                "Convert the model again with a current llama.cpp.",
            )
        tensors, fields = self.number("Q"), self.number("Q")
        metadata: dict[str, Any] = {}
        # A field takes at least thirteen bytes, a tensor 24.
        for _ in range(self.fits("metadata", fields, 13)):
            name = self.text("metadata")
            metadata[name] = self.value(name, self.number("I"))
        entries = [self.tensor() for _ in range(self.fits("tensors", tensors, 24))]
        alignment = metadata.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise ModelError(f"{self.file}: general.alignment is {alignment!a}", _WHOLE)
        start = -(-self.place // alignment) * alignment
        found = {tensor.name: tensor for tensor in (self.checked(start, *entry) for entry in entries)}
        if len(found) < len(entries):
            raise ModelError(f"{self.file}: two tensors have one name", _WHOLE)
        return Header(self.file, metadata, found)

    def number(self, kind: str) -> Any:
        size = struct.calcsize(f"<{kind}")
        self.fits("header", 1, size)
        (value,) = struct.unpack_from(f"<{kind}", self.content, self.place)
        self.place += size
        return value

    def text(self, field: str) -> str:
        length = self.fits(field, self.number("Q"))
        value = self.content[self.place : self.place + length]
        self.place += length
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise ModelError(f"{self.file}: '{field}' is not UTF-8", _WHOLE) from None

    def value(self, field: str, kind: int) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _TEXT:
            return self.text(field)
        if kind != _ARRAY:
            raise ModelError(f"{self.file}: '{field}' is of kind {kind}, which GGUF does not have", _WHOLE)
        inner, length = self.number("I"), self.number("Q")
        if inner in _SCALARS:
            self.skip(field, length * struct.calcsize(f"<{_SCALARS[inner]}"))
        elif inner == _TEXT:
            for _ in range(self.fits(field, length, 8)):
                self.skip(field, self.number("Q"))
        else:
            raise ModelError(f"{self.file}: '{field}' is an array of kind {inner}, which is not read", _WHOLE)
        return length

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name, dimensions = self.text("tensors"), self.number("I")
        if not 1 <= dimensions <= _DIMENSIONS:
            raise ModelError(f"{self.file}: tensor '{name}' has {dimensions} dimensions", _WHOLE)
        shape = tuple(self.number("Q") for _ in range(dimensions))
        return name, shape[::-1], self.number("I"), self.number("Q")

    def checked(self, start: int, name: str, shape: tuple[int, ...], kind: int, offset: int) -> Tensor:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        try:
            known = GGMLQuantizationType(kind)
            per_block, block_bytes = GGML_QUANT_SIZES[known]
        except (ValueError, KeyError):
            raise ModelError(
                f"{self.file}: tensor '{name}' is quantized in a way that is not known (kind {kind})",
                "Install a newer gguf, or take another quantization of the model, such as Q8_0.",
            ) from None
        if shape[-1] % per_block or 0 in shape:
            raise ModelError(f"{self.file}: tensor '{name}' of shape {list(shape)} is not {known.name}", _WHOLE)
        row_bytes = shape[-1] // per_block * block_bytes
        if start + offset + prod(shape[:-1]) * row_bytes > len(self.content):
            raise ModelError(
                f"{self.file}: truncated, or damaged: tensor '{name}', {known.name} of shape {list(shape)}, ends "
                f"behind the file's {len(self.content):,} bytes",
                _WHOLE,
            )
        return Tensor(name, shape, known, start + offset, row_bytes)

    def skip(self, field: str, length: int) -> None:
        self.place += self.fits(field, length)

    def fits(self, field: str, count: int, size: int = 1) -> int:
        """Return `count`. Raises ModelError where the file has not so many entries of `size` bytes left."""
        left = len(self.content) - self.place
        if count * size > left:
            raise ModelError(
                f"{self.file}: truncated, or damaged: '{field}' of {count * size:,} bytes begins {left:,} bytes before "
                "the file's end",
                _WHOLE,
            )
        return count

"""Examples of one task in a table on disk: written once, row by row, and read back a few at a time."""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar, overload
from unicodedata import normalize

import numpy as np
import pyarrow as pa

from gpt_tasks.errors import DataError
from gpt_tasks.files import machine_errors
from gpt_tasks.types import Example

T = TypeVar("T")

UNKNOWN = -1
"""The code of an example whose target is not known."""

MOST_CHARACTERS = 4_000_000
_BATCH = 1024
_MAPPED = 64
_WHERE, _REFERENCES, _CHOICES = "where", "references", "choices"


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """An Arrow file in batches of `_BATCH` rows, with what is cheap to keep in memory.

    `codes` `[rows]` index the targets in the order in which they were first met; answers that are `written` are in the
    file instead, as are `choices`, where examples have some. `keys` `[rows]` are 64-bit hashes of the inputs and
    choices, equal where texts differ in nothing but white space and Unicode's forms of one letter.
    """

    path: Path
    inputs: tuple[str, ...]
    extras: tuple[str, ...]
    written: bool
    choices: bool
    codes: np.ndarray
    keys: np.ndarray
    targets: tuple[str, ...]
    digest: str

    def read(self, rows: np.ndarray, columns: Collection[str]) -> Iterator[list[dict[str, Any]]]:
        """Yield the values of rows, in their order, in stretches that lie in the same batch.

        The file is mapped anew every so often: pages that were read count as this process's memory for as long as
        their map is open.
        """
        homes = rows // _BATCH
        stretches = iter(np.split(rows, np.flatnonzero(np.diff(homes)) + 1) if len(rows) else [])
        while some := list(islice(stretches, _MAPPED)):
            with pa.memory_map(str(self.path)) as file:
                table = pa.ipc.open_file(file)
                for stretch in some:
                    batch = table.get_batch(int(stretch[0] // _BATCH)).select(list(columns))
                    yield batch.take(pa.array(stretch % _BATCH)).to_pylist()


@dataclass(frozen=True, eq=False)
class Examples(Sequence[Example]):
    """Examples of one task, some rows of a table on disk. A slice or a subset copies no text.

    `label_names` are the names of the label codes: the data's own labels, or the model's once they are settled.
    `codes_by_target` leads from the table's codes to these.
    """

    table: Table
    rows: np.ndarray
    label_names: tuple[str, ...]
    codes_by_target: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """The label codes `[n]`: indices into `label_names`, and -1 where the target is not known."""
        labels: np.ndarray = self.codes_by_target[self.table.codes[self.rows]]
        return labels

    @property
    def keys(self) -> np.ndarray:
        """Hashes `[n]` that are equal where inputs differ only in white space and in Unicode's forms of a letter."""
        keys: np.ndarray = self.table.keys[self.rows]
        return keys

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the inputs."""
        return self.table.inputs

    @property
    def observed(self) -> dict[str, int]:
        """The labels that these examples hold, and of how many each is."""
        codes, counts = np.unique(self.labels, return_counts=True)
        found = zip(codes.tolist(), counts.tolist(), strict=True)
        return {self.label_names[code]: count for code, count in found if code != UNKNOWN}

    @property
    def fingerprint(self) -> str:
        """A hash of the content: texts, targets, labels and their order, regardless of their source."""
        digest = hashlib.blake2b(self.table.digest.encode(), digest_size=16)
        digest.update(self.rows.astype("<i8").tobytes())
        digest.update("\x1f".join(self.label_names).encode())
        return digest.hexdigest()

    def targets(self) -> list[str | None]:
        """Return the targets, without reading any text."""
        return [None if code == UNKNOWN else self.label_names[code] for code in self.labels]

    def texts(self, field: str) -> Iterator[str]:
        """Read one field of every example."""
        for stretch in self.table.read(self.rows, [_input(field)]):
            yield from (values[_input(field)] for values in stretch)

    def empty_answers(self) -> list[str]:
        """Return the places of those examples whose written answer is empty."""
        stretches = self.table.read(self.rows, [_REFERENCES, _WHERE]) if self.table.written else ()
        return [values[_WHERE] for some in stretches for values in some if not values[_REFERENCES][0].strip()]

    def subset(self, indices: Sequence[int] | np.ndarray) -> Examples:
        """Return the examples at `indices`, in that order."""
        return replace(self, rows=self.rows[np.asarray(indices, dtype=np.int32)])

    def labelled(self, labels: Sequence[str], meaning: Mapping[str, str]) -> Examples:
        """Return these examples with their targets' `meaning` as labels, coded by their place in `labels`."""
        codes = [labels.index(meaning[target]) if target in meaning else UNKNOWN for target in self.table.targets]
        return replace(self, label_names=tuple(labels), codes_by_target=np.array([*codes, UNKNOWN], dtype=np.int32))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Example]:
        inputs, extras = self.table.inputs, self.table.extras
        columns = [*map(_input, inputs), *map(_extra, extras), _WHERE]
        columns += [_REFERENCES] if self.table.written else []
        columns += [_CHOICES] if self.table.choices else []
        labels = self.labels
        index = 0
        for stretch in self.table.read(self.rows, columns):
            for values in stretch:
                references = tuple(values.get(_REFERENCES, ()))
                target = None if labels[index] == UNKNOWN else self.label_names[labels[index]]
                yield Example(
                    {field: values[_input(field)] for field in inputs},
                    references[0] if references else target,
                    values[_WHERE],
                    {column: values[_extra(column)] for column in extras},
                    choices=tuple(values.get(_CHOICES, ())),
                    references=references,
                )
                index += 1

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Examples: ...
    def __getitem__(self, index: int | slice) -> Example | Examples:
        if isinstance(index, slice):
            return replace(self, rows=self.rows[index])
        return next(iter(replace(self, rows=self.rows[[index]])))


def chunks(items: Iterable[T], size: int, length: Callable[[T], int] | None = None) -> Iterator[list[T]]:
    """Yield lists of at most `size` items; with the `length` of each, in characters, of at most 4 million or of one.

    A token takes some hundred bytes until a model has read it.
    """
    if length is None:
        iterator = iter(items)
        while chunk := list(islice(iterator, size)):
            yield chunk
        return
    chunk, characters = [], 0
    for item in items:
        more = length(item)
        if chunk and characters + more > MOST_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
        chunk.append(item)
        characters += more
        if len(chunk) == size:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def text_length(example: Example) -> int:
    """Return the number of characters of an example's inputs and choices."""
    return sum(map(len, _texts(example)))


def store_examples(examples: Iterable[Example], scratch: Path) -> Examples:
    """Write examples, which must have the same fields and be at least one, to a table under `scratch`.

    No more than some of them are in memory at a time. Raises DataError for a text that no encoding can hold,
    MachineError where the disk is full.
    """
    coming = iter(examples)
    first = next(coming)
    inputs, extras = tuple(first.inputs), tuple(first.extra)
    written, choices = bool(first.references), bool(first.choices)
    fields = [(name, pa.string()) for name in [*map(_input, inputs), *map(_extra, extras), _WHERE]]
    if written:
        fields.append((_REFERENCES, pa.list_(pa.string())))
    if choices:
        fields.append((_CHOICES, pa.list_(pa.string())))
    schema = pa.schema(fields)
    digest = hashlib.blake2b(digest_size=16)
    codes, keys = array("i"), array("Q")
    targets: dict[str, int] = {}
    coming = chain([first], coming)
    with machine_errors():
        scratch.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.NamedTemporaryFile(suffix=".arrow", dir=scratch, delete=False) as file,
            pa.ipc.new_file(file, schema) as writer,
        ):
            while chunk := list(islice(coming, _BATCH)):
                for example in chunk:
                    content = _content(example)
                    digest.update(content)
                    keys.append(key_of(example))
                    target = None if written else example.target
                    codes.append(UNKNOWN if target is None else targets.setdefault(target, len(targets)))
                columns = [
                    *([example.inputs[field] for example in chunk] for field in inputs),
                    *([example.extra[column] for example in chunk] for column in extras),
                    [example.where for example in chunk],
                    *([[example.references for example in chunk]] if written else []),
                    *([[example.choices for example in chunk]] if choices else []),
                ]
                arrays = [pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)]
                writer.write_batch(pa.record_batch(arrays, schema))
    table = Table(
        Path(file.name),
        inputs,
        extras,
        written,
        choices,
        np.frombuffer(codes, dtype=np.int32),
        np.frombuffer(keys, dtype=np.uint64),
        tuple(targets),
        digest.hexdigest(),
    )
    every = np.arange(len(codes), dtype=np.int32)
    return Examples(table, every, tuple(targets), np.array([*range(len(targets)), UNKNOWN], dtype=np.int32))


def key_of(example: Example) -> int:
    """Return a 64-bit hash of an example's inputs and choices, equal where only white space or Unicode form differs."""
    texts = "\x1f".join(_bare(example))
    return int.from_bytes(hashlib.blake2b(texts.encode(), digest_size=8).digest(), "little")


def same_texts(one: Example, other: Example) -> bool:
    """Tell whether two examples' inputs and choices differ in nothing but white space."""
    return _bare(one) == _bare(other)


def check_encodable(example: Example) -> Example:
    """Return the example. Raises DataError for a text that no encoding can hold."""
    _content(example)
    return example


def _content(example: Example) -> bytes:
    targets = example.references or (() if example.target is None else (example.target,))
    target = "".join(f"={target}" for target in targets)
    try:
        return "\x1f".join([*_texts(example), target, *example.extra.values(), "\x1e"]).encode()
    except UnicodeEncodeError as error:
        half = str(error.object)[error.start]
        raise DataError(
            f"{example.where}: the text holds half a character ({half!a})",
            "Fix the text: it was cut or escaped wrongly.",
        ) from error


def _bare(example: Example) -> list[str]:
    return [normalize("NFC", " ".join(text.split())) for text in _texts(example)]


def _texts(example: Example) -> list[str]:
    return [*example.inputs.values(), *example.choices]


def _input(field: str) -> str:
    return f"input:{field}"


def _extra(column: str) -> str:
    return f"extra:{column}"

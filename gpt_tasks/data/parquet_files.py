"""Parquet files, with the names of classes that their metadata have. A column that nobody asks for is not read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from gpt_tasks.data.arrow_rows import ArrowValues, column_values
from gpt_tasks.data.cells import refuse_repeated
from gpt_tasks.data.class_names import features_of
from gpt_tasks.data.encodings import reading
from gpt_tasks.errors import DataError
from gpt_tasks.types import Row

_BATCH = 1024
_CHUNK = 2**20
# How pandas calls an index that has no name.
_INDEX = "__index_level_"


def read_parquet(path: Path) -> Iterator[Row]:
    """Yield the rows of a file, in which numbers of classes are their names where its metadata have them.

    Raises DataError where the file is damaged, once what is damaged is read.
    """
    table = _Table(path)
    for number in range(table.rows):
        where = f"{path.name}:{number + 1}"
        yield Row(ArrowValues(table.columns, partial(table.value, number), where), where)
        if table.damage is not None:
            raise table.damage


class _Table:
    """An open file. Each column is read on its own, forward, as far as somebody asks for it."""

    def __init__(self, path: Path) -> None:
        from pyarrow import parquet

        self.path = path
        self.damage: DataError | None = None
        """What was met in reading: no later row is whole."""
        with reading(path), self._whole("this is not a whole .parquet file"):
            # Buffered, a column of a row group is read piece by piece and not held whole.
            self._file = parquet.ParquetFile(path, buffer_size=_CHUNK, page_checksum_verification=True)
            schema, metadata = self._file.schema_arrow, self._file.metadata
            refuse_repeated(schema.names, path.name)
            self.features = features_of(schema, path)
            self.columns = [name for name in schema.names if not name.startswith(_INDEX)]
            self.rows = metadata.num_rows
            if self.rows != sum(metadata.row_group(place).num_rows for place in range(metadata.num_row_groups)):
                raise ValueError("the numbers of its rows do not agree")
        self._open: dict[str, _Column] = {}

    def value(self, row: int, name: str) -> Any:
        """Return one value, as `column_values` does."""
        column = self._open.get(name)
        if column is not None and column.start <= row < column.end:
            return column.values[row - column.start]
        if column is None or row < column.start:
            batches = self._file.iter_batches(batch_size=_BATCH, columns=[name])
            column = self._open[name] = _Column(
                column_values(batch.column(name), self.features.get(name)) for batch in batches if len(batch)
            )
        after = f" after row {row}" if row else ""
        with reading(self.path), self._whole(f"column '{name}' cannot be read{after}"):
            column.move_to(row)
            return column.values[row - column.start]

    @contextmanager
    def _whole(self, what: str) -> Iterator[None]:
        """Raise what the library says of a damaged file as DataError, and keep it."""
        import pyarrow as pa

        try:
            yield
        except DataError:
            raise
        except (pa.ArrowException, ValueError, OverflowError, LookupError, OSError, MemoryError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            said = (str(error).splitlines() or [type(error).__name__])[0]
            self.damage = DataError(f"{self.path}: {what}: {said}", "Write it anew.")
            raise self.damage from error


class _Column:
    """The values of a column in stretches, of which one is held: that of the rows [start, end)."""

    def __init__(self, stretches: Iterator[list[Any]]) -> None:
        self._stretches = stretches
        self.values: list[Any] = []
        self.start = self.end = 0

    def move_to(self, row: int) -> None:
        """Read on to the stretch that holds a row. Raises ValueError where the column ends before it."""
        while row >= self.end:
            self.values = next(self._stretches, [])
            if not self.values:
                raise ValueError(f"it ends after row {self.end}")
            self.start, self.end = self.end, self.end + len(self.values)

"""Parquet files, with the names of classes that their metadata have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gpt_tasks.data.cells import refuse_repeated
from gpt_tasks.data.class_names import features_of, named
from gpt_tasks.data.encodings import reading
from gpt_tasks.errors import DataError
from gpt_tasks.types import Row

_BATCH = 1024
_CHUNK = 2**20
# How pandas calls an index that has no name.
_INDEX = "__index_level_"


def read_parquet(path: Path) -> Iterator[Row]:
    """Yield the rows of a file, in which numbers of classes are their names where its metadata have them."""
    import pyarrow as pa
    from pyarrow import parquet

    number = 0
    with reading(path):
        try:
            # Buffered, a column of a row group is read piece by piece and not held whole.
            with parquet.ParquetFile(path, buffer_size=_CHUNK) as table:
                refuse_repeated(table.schema_arrow.names, path.name)
                names = features_of(table.schema_arrow, path)
                columns = [name for name in table.schema_arrow.names if not name.startswith(_INDEX)]
                for batch in table.iter_batches(batch_size=_BATCH, columns=columns):
                    for values in batch.to_pylist():
                        number += 1
                        yield Row(named(values, names), f"{path.name}:{number}")
        except (pa.ArrowException, ValueError, OverflowError, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            said = (str(error).splitlines() or [type(error).__name__])[0]
            if not number:
                raise DataError(f"{path}: this is not a whole .parquet file: {said}", "Write it anew.") from error
            raise DataError(f"{path}: it cannot be read after row {number}: {said}", "Write it anew.") from error

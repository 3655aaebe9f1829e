"""Open what `--data` names: a file, a folder of splits or of classes, a scheme such as `hf:`, or what is in memory."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from itertools import chain, islice
from pathlib import Path

from gpt_tasks.data.class_folders import class_folders, read_classes, shared_code_page, sub_folders
from gpt_tasks.data.encodings import reading
from gpt_tasks.data.formats import SUFFIXES, DataFile, open_file, refuse_encoding, suffix_of
from gpt_tasks.data.in_memory import InMemory, is_described
from gpt_tasks.data.invalid import BrokenRow
from gpt_tasks.data.split_names import ALL, SPLITS, split_named
from gpt_tasks.errors import DataError, GptTasksError, PluginError
from gpt_tasks.extensions import FileFormat, Reader, SourceScheme
from gpt_tasks.paths import check_rereadable, user_path
from gpt_tasks.types import Row

LOOKED_AT = 100
"""So many rows of a split are looked at before it is read."""
# One letter before a colon is a drive of Windows.
_SCHEME = re.compile(r"([a-z][a-z0-9._-]+):(.+)", re.DOTALL)
_SHARD = re.compile(r"([a-z]+)(?:[-_.]?\d+(?:-of-\d+)?)", re.IGNORECASE)
# As SQuAD names its files: train-v1.1, dev-v2.0.
_VERSION = re.compile(r"([a-z]+)-v\d+(?:\.\d+)*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """Rows by split: for `train`, `validation`, `test`, or the one split `all`, what starts reading its rows.

    `notes` are sentences for the user about how it is read.
    """

    name: str
    splits: Mapping[str, Callable[[], Iterator[Row]]]
    notes: tuple[str, ...] = ()

    def whole_rows(self, split: str) -> Iterator[Row]:
        """Yield the rows of a split that their reader could make sense of."""
        return (row for row in self.splits[split]() if not isinstance(row, BrokenRow))

    def columns(self, split: str, limit: int | None = LOOKED_AT) -> list[str]:
        """Return the columns that the first rows of a split have, or all of them: rows of JSON may lack some."""
        return list(dict.fromkeys(name for row in islice(self.whole_rows(split), limit) for name in row.values))


def open_source(spec: object, readers: Mapping[str, Reader], encoding: str | None = None) -> Source:
    """Open a file, a folder, a scheme's `PREFIX:LOCATION`, or data that a program holds (see `InMemory`).

    A folder holds train, validation and test files, or one sub-folder of texts for each class. `readers` are the
    schemes, by their prefix without its colon, and the formats of files. Text files are in `encoding`, where it is
    given. Raises DataError where there is nothing to read, UsageError for the encoding of what
    is no text, and PluginError where a scheme fails.
    """
    held = InMemory.of(spec)
    if held is not None:
        refuse_encoding(encoding, str(held))
        return _open_held(held)
    if not isinstance(spec, str | Path):
        raise DataError(
            f"A {type(spec).__name__} cannot be read as data",
            "Give a path, a DataFrame, a datasets.Dataset, a list of mappings, or a mapping of these by split.",
        )
    path = user_path(spec, "data")
    scheme = _SCHEME.fullmatch(str(spec))
    formats = [reader for reader in readers.values() if isinstance(reader, FileFormat)]
    with reading(path):
        if scheme and not _is_there(path):
            found = readers[scheme[1]]
            if isinstance(found, SourceScheme):
                refuse_encoding(encoding, str(spec))
                return _open_scheme(str(spec), found, scheme[2])
            path = user_path(scheme[2], "data")
        if path.is_dir():
            return _open_folder(path, formats, encoding)
        if not path.exists():
            raise _missing(path)
        check_rereadable(path)
        file = open_file(path, formats, encoding)
        return Source(path.name, {ALL: file.rows}, file.notes)


def _open_held(held: InMemory) -> Source:
    tables = held.tables
    if tables is None:
        return Source(held.name, {ALL: held.rows})
    found: dict[str, Callable[[], Iterator[Row]]] = {}
    others = []
    for name, read in tables.items():
        split = split_named(name)
        if split is None or split in found:
            others.append(name)
        else:
            found[split] = read
    if not found:
        raise DataError(
            f"{held}: its tables are {', '.join(tables)}, which are no splits", f"Name them {', '.join(SPLITS)}."
        )
    splits = {name: found[name] for name in SPLITS if name in found}
    return Source(held.name, splits, tuple(_left_out(f"the {held.name}", others)))


def _is_there(path: Path) -> bool:
    """Whether a file or folder has this name; what is too long for a name (a query, say) is none."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def _open_scheme(spec: str, scheme: SourceScheme, location: str) -> Source:
    def guarded(call: Callable[[], Iterator[Row]]) -> Iterator[Row]:
        try:
            yield from call()
        except GptTasksError:
            raise
        except Exception as error:
            raise _failure(spec, scheme, error) from error

    try:
        splits = dict(scheme.splits(location))
    except GptTasksError:
        raise
    except Exception as error:
        raise _failure(spec, scheme, error) from error
    if not splits or (set(splits) != {ALL} and not set(splits) <= set(SPLITS)):
        raise PluginError(
            f"The source '{scheme.prefix}' gave the splits {', '.join(splits) or 'none'} for {spec}",
            f"A source gives some of {', '.join(SPLITS)}, or the one split '{ALL}'.",
        )
    return Source(spec, {name: partial(guarded, call) for name, call in splits.items()})


def _failure(spec: str, scheme: SourceScheme, error: Exception) -> PluginError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return PluginError(f"The source '{scheme.prefix}' failed on {spec}: {reason}", "Fix or upgrade its plugin.")


def _open_folder(folder: Path, formats: Sequence[FileFormat], encoding: str | None) -> Source:
    found: dict[str, list[Path]] = {}
    others = []
    for path in _data_files(folder, formats) or _data_files(folder / "data", formats):
        stem = _stem(path, formats)
        numbered = _SHARD.fullmatch(stem) or _VERSION.fullmatch(stem)
        name = split_named(numbered[1] if numbered else stem)
        if name:
            found.setdefault(name, []).append(path)
        else:
            others.append(path.name)
    if not found:
        return _open_class_folders(folder, encoding)
    for name, paths in found.items():
        if len(paths) > 1 and not all(_SHARD.fullmatch(_stem(path, formats)) for path in paths):
            raise DataError(
                f"{folder}: both {paths[0].name} and {paths[1].name} could be the {name} split",
                "Leave one of them, or number its parts as in train-00000-of-00002.csv.",
            )
    files = {name: [open_file(path, formats, encoding) for path in found[name]] for name in SPLITS if name in found}
    source = f"{folder.name}/"
    return Source(
        source,
        {name: partial(_chained, parts) for name, parts in files.items()},
        (*(note for file in chain.from_iterable(files.values()) for note in file.notes), *_left_out(source, others)),
    )


def _open_class_folders(folder: Path, encoding: str | None) -> Source:
    """Open a folder of classes, or one of splits that are such folders."""
    found: dict[str, list[Path]] = {}
    others = []
    for each in sub_folders(folder):
        name, classes = split_named(each.name), class_folders(each)
        if name and classes and name in found:
            raise DataError(f"{folder}: two folders could be the {name} split", f"Leave one of them: {each.name}.")
        if name and classes:
            found[name] = classes
        else:
            others.append(f"{each.name}/")
    if not found:
        found, others = {ALL: class_folders(folder)}, []
        if len(found[ALL]) < 2:
            raise DataError(
                f"{folder}: the folder holds no train, validation or test file",
                f"Name them train.csv, validation.csv and test.csv (or another of {', '.join(SUFFIXES)}), or give each "
                "class a folder of .txt files.",
            )
    name = f"{folder.name}/"
    folders = [each for classes in found.values() for each in classes]
    labels = ", ".join(sorted({each.name for each in folders}))
    code_page, note = (None, "") if encoding else shared_code_page(folders, name)
    return Source(
        name,
        {split: partial(read_classes, found[split], encoding, code_page) for split in (ALL, *SPLITS) if split in found},
        (
            f"Every text of {name} is labelled with the name of its folder: {labels}.",
            *_left_out(name, others),
            *([note] if note else []),
        ),
    )


def _left_out(name: str, others: Sequence[str]) -> list[str]:
    return [f"Left out of {name}, as they are no splits: {', '.join(others)}."] if others else []


def _data_files(folder: Path, formats: Sequence[FileFormat]) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and suffix_of(path, formats))


def _stem(path: Path, formats: Sequence[FileFormat]) -> str:
    return path.name[: -len(suffix_of(path, formats) or "")]


def _chained(files: Sequence[DataFile]) -> Iterator[Row]:
    return chain.from_iterable(file.rows() for file in files)


def _missing(path: Path) -> DataError:
    if is_described(str(path)):
        return DataError(f"There is no copy of the {path}", "Give the data again, from Python.")
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    lost = path.relative_to(folder).parts[0] if path != folder else path.name
    near = get_close_matches(lost, [entry.name for entry in folder.iterdir()], n=1) if folder.is_dir() else []
    hint = f"Did you mean {folder / near[0]}?" if near else "Check the path."
    return DataError(f"{path}: there is no such file or folder", hint)

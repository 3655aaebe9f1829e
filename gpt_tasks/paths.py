"""The paths that users give, from the command line, a file or Python: what they mean, and what may be written there."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Self, TextIO

from gpt_tasks.errors import DataError, MachineError, UsageError
from gpt_tasks.files import REFUSALS, atomic_path, is_draft, remove_left_drafts
from gpt_tasks.processes import LOCK, alone_in
from gpt_tasks.signals import uninterrupted

STDOUT = "-"
UNFINISHED = ".unfinished"
"""In an output folder until all is written; where it is left, a process was killed, and what it wrote is replaced."""
_SURROGATES = re.compile("[\ud800-\udfff]")


def user_path(given: str | os.PathLike[str], flag: str = "") -> Path:
    """Return a path as its user means it: `~` is a home. `flag` says where it was given.

    Raises UsageError for what is no path, and for one that is empty, that holds a zero character or that is not UTF-8,
    the names of the folders that it is in included: many libraries open no other.
    """
    if not isinstance(given, str | os.PathLike):
        raise UsageError(f"{flag} {given!r:.60}: this is no path".strip(), "Give one as a text or a Path.")
    text = os.fspath(given)
    if not text:
        raise UsageError(f"{flag} '': the path is empty".strip(), "Give a path, or leave it out.")
    if "\0" in text:
        raise UsageError(f"{flag} {text!a}: a path holds no zero character".strip(), "Give another path.")
    check_utf8(text, flag)
    path = Path(text)
    with suppress(RuntimeError):  # There is no such user: it is the name of a file.
        path = path.expanduser()
    with suppress(OSError):  # The working directory is gone.
        check_utf8(str(path.absolute()), f"{flag} {text!a}:".strip())
    return path


def base_name(place: str) -> str:
    """Return a path without its folders, also behind a scheme; what is no path, as the name of a model, as it is."""
    scheme, colon, location = place.partition(":")
    path, mark, table = location.partition("#")
    if _is_path(place):
        return user_path(place).absolute().name
    return f"{scheme}:{user_path(path).absolute().name}{mark}{table}" if colon and _is_path(path) else place


def _is_path(place: str) -> bool:
    return place.startswith((os.sep, "~", ".")) or (bool(place) and user_path(place).exists())


def check_utf8(text: str, what: str = "") -> None:
    """Raise UsageError for a name, or another argument, whose bytes are not UTF-8: nothing could show or record it."""
    if _SURROGATES.search(text):
        shown = _SURROGATES.sub(lambda found: ascii(found[0])[1:-1].replace("udc", "x"), text)
        raise UsageError(
            f"{what} '{shown}' is not UTF-8".strip(), "Rename the file or the folder, or convert the text to UTF-8."
        )


def check_rereadable(path: Path) -> None:
    """Raise DataError for what is there and can be read only once, as a pipe."""
    if path.exists() and not path.is_file():
        raise DataError(
            f"{path} is {_kind(path)}, and data are read more than once",
            "Write them to a file first, and give that; gpt-tasks predict --input - reads texts from stdin.",
        )


# Files.


def check_output_file(path: Path, sources: Iterable[str | os.PathLike[str] | None] = ()) -> None:
    """Raise UsageError where a file cannot be written, or is one that `sources` are read from; see `open_output`."""
    descriptor = _descriptor(path)
    if descriptor is not None:
        if not _takes_output(descriptor):
            raise UsageError(f"--output {path} cannot be written: it is not open, or for reading", "Give another file.")
        return
    if is_stream(path):
        mode = path.stat().st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
            raise UsageError(f"--output {path} is {_kind(path)}", "Give a file, a pipe or - for stdout.")
        if not os.access(path, os.W_OK):
            raise MachineError(f"--output {path}: {os.strerror(errno.EACCES)}", REFUSALS[errno.EACCES])
        return
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"--output {path} cannot be a file", "Give a file in a folder that is there.")
    check_place(path)
    for source in sources:
        if source and path.exists() and any(_is_same(path, each) for each in _files(source)):
            raise UsageError(f"--output {path} is a file that {source} is read from", "Give another file.")


def is_stream(path: Path) -> bool:
    """Return whether a path is that of stdout, a pipe or a device, into which one writes."""
    return _descriptor(path) is not None or (path.exists() and not path.is_file() and not path.is_dir())


@contextmanager
def open_output(path: Path) -> Iterator[TextIO]:
    """Open a file for text in UTF-8. A plain one is there as a whole or not at all, with the rights that it had.

    `-` is stdout. A link is followed. A pipe, a device or an open file, as /dev/fd/3, is written to and stays.
    """
    descriptor = _descriptor(path)
    if descriptor is not None:
        sys.stdout.flush()
        with os.fdopen(os.dup(descriptor), "w", encoding="utf-8", newline="\n") as file:
            yield file
    elif is_stream(path):
        with path.open("w", encoding="utf-8", newline="\n") as file:
            yield file
    else:
        with output_draft(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as file:
            yield file


@contextmanager
def output_draft(path: Path) -> Iterator[Path]:
    """Yield the path of a draft to write, which then takes the place of a plain file, with the rights that it had."""
    place = real(path)
    remove_left_drafts(place)
    with atomic_path(place) as draft:
        yield draft
        if place.exists():
            shutil.copymode(place, draft)


def _descriptor(path: Path) -> int | None:
    """Return which of this process's open files a path leads to: /dev/stdout and /dev/fd/1 are links to /proc."""
    if str(path) == STDOUT:
        return 1
    own = re.compile(rf"/proc/{os.getpid()}(?:/task/\d+)?/fd")
    for _ in range(40):  # as many links as Linux follows
        place = os.path.realpath(path.parent)
        if path.name.isdecimal() and (own.fullmatch(place) or place == "/dev/fd"):
            return int(path.name)
        path = Path(place, path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _takes_output(descriptor: int) -> bool:
    try:
        os.write(descriptor, b"")
    except (OSError, OverflowError):
        return False
    return True


def _kind(path: Path) -> str:
    mode = path.stat().st_mode
    names = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return names.get(stat.S_IFMT(mode), "a device")


def _files(source: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the files that a source is or may be read from: itself, what follows its scheme, a folder's files."""
    text = os.fspath(source)
    for name in filter(None, dict.fromkeys((text, text.partition(":")[2]))):
        path = user_path(name)
        with suppress(OSError):  # too long for the name of a file
            yield from (each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]


def _is_same(output: Path, path: Path) -> bool:
    try:
        return output.samefile(path)
    except OSError:
        return False


# Folders.


def check_place(path: Path) -> None:
    """Check that a file or folder can be made there, before the work for it begins.

    Raises UsageError where the path leads through a file, MachineError where nothing may be written.
    """
    place = real(user_path(path, "--output"))
    nearest = place if place.is_dir() else next(each for each in place.parents if each.exists())
    if not nearest.is_dir():
        raise UsageError(f"--output {path}: {nearest} is a file", "Give a path that leads through folders only.")
    trial = nearest / f".{os.getpid()}.gpt-tasks"
    try:
        # Rights alone do not say it: not those of root, nor those in /proc.
        os.close(os.open(trial, os.O_CREAT | os.O_WRONLY, 0o600))
        trial.unlink()
    except OSError as error:
        hint = REFUSALS.get(error.errno or 0, "Give another place with --output.")
        raise MachineError(f"--output {path}: nothing can be written in {nearest}: {error.strerror}", hint) from error


def free_folder(
    given: str | os.PathLike[str] | None, flag: str = "--output", *, unfinished: bool = False
) -> Path | None:
    """Return an output folder. Raises UsageError where it is no folder or not empty, MachineError as `check_place`.

    With `unfinished` it may hold what a process that was killed in `output_folder` left.
    """
    if given is None:
        return None
    path = user_path(given, flag)
    if path.exists() and not path.is_dir():
        raise UsageError(f"{flag} {path} is {'a file' if path.is_file() else _kind(path)}", _FREE)
    # The lock and drafts alone are what a killed process leaves that had not begun.
    held = {each.name for each in path.iterdir() if not is_draft(each)} - {LOCK} if path.is_dir() else set()
    if held and not (unfinished and UNFINISHED in held):
        raise UsageError(f"{flag} {path} is not empty", _FREE)
    check_place(path)
    return path


@dataclass(frozen=True)
class OutputFolder:
    """A folder that a command writes into: which of it and its parents are `made` for it, and where it was there, its
    `mode` and what it held `before`.
    """

    path: Path
    made: tuple[Path, ...] = ()
    mode: int | None = None
    before: frozenset[str] = frozenset()

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the folder as it is before it is written into; it need not be there."""
        place = real(path)
        if not place.is_dir():
            return cls(path, tuple(each for each in (place, *place.parents) if not each.exists()))
        return cls(path, (), stat.S_IMODE(place.stat().st_mode), frozenset(each.name for each in place.iterdir()))

    def make(self, *, private: bool = False) -> None:
        """Make it, and its parents; a `private` one is for its user alone."""
        real(self.path).mkdir(parents=True, exist_ok=True)
        if private:
            self.path.chmod(0o700)

    def clear(self, keep: str = "") -> None:
        """Take away what was written into the folder, but for files to `keep`, as in `answers*.jsonl`, and the folders
        that were made for it, if they are empty then. A folder that was there before stays, with the rights it had.
        """
        for each in self.path.iterdir() if self.path.is_dir() else ():
            if each.name in self.before or fnmatchcase(each.name, keep):
                continue
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each, ignore_errors=True)
            else:
                each.unlink(missing_ok=True)
        if self.mode is not None:
            self.path.chmod(self.mode)
        self.remove_empty()

    def remove_empty(self) -> None:
        """Take away the folders that were made for it, if nothing is in them."""
        with suppress(OSError):
            for each in self.made:
                each.rmdir()


@contextmanager
def output_folder(path: Path | None, keep: str = "") -> Iterator[None]:
    """Make a folder, if one is given, for this process alone; where the block fails, clear it (`OutputFolder.clear`).

    A process that is killed in the block leaves a mark, by which the next one knows that the folder was free before.
    Raises UsageError where another process works there.
    """
    if path is None:
        yield
        return
    folder, mark = OutputFolder.of(path), path / UNFINISHED
    try:
        folder.make()
        with alone_in(path):
            before = frozenset(each.name for each in path.iterdir())
            if before <= {LOCK} or UNFINISHED in before:
                before = frozenset({LOCK})
                mark.touch()
            try:
                yield
                mark.unlink(missing_ok=True)
            except BaseException:
                with uninterrupted():
                    replace(folder, before=before).clear(keep)
                raise
    finally:
        with uninterrupted():
            folder.remove_empty()


def real(path: Path) -> Path:
    """Return where a path leads when links are followed, also one to what is not there yet."""
    return Path(os.path.realpath(path))


_FREE = "Give a folder that is empty or not there yet."

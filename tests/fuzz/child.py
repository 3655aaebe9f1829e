"""Run a command line in a forked child, within limits, and say what was wrong with how it ended."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

CPU_SECONDS, WALL_SECONDS = 30, 240
MEMORY = 2 << 30
MESSAGE = 8_000
MAY_END_WITH = (0, 2, 4, 5, 6)
OUTPUT, STDIN, STDOUT, STDERR = "out", ".stdin", ".stdout", ".stderr"
OURS = {STDIN, STDOUT, STDERR, ".home", ".tmp"}


@dataclass(frozen=True)
class Case:
    """A command line, and what is mutated: files of a folder that is otherwise the world's.

    `takes` are the names in the world that are copied to the folder; a file of None is removed. Of `culprits` one must
    be in the message of an error. What is in the folders that it `changes` need not stay as it was.
    """

    arguments: tuple[str, ...]
    files: Mapping[str, bytes | None] = field(default_factory=dict)
    takes: tuple[str, ...] = ()
    culprits: tuple[str, ...] = ()
    stdin: bytes = b""
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, minus the number of a signal, and what it said on stderr."""

    code: int
    said: str
    peak: int
    faults: tuple[str, ...]


def run_case(case: Case, world: Path) -> Ended:
    """Run a case in a scratch folder; return how it ended, with its faults."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        folder = Path(scratch)
        for name in case.takes:
            if (world / name).is_dir():
                shutil.copytree(world / name, folder / name)
            else:
                shutil.copy2(world / name, folder / name)
        for name, content in case.files.items():
            path = folder / name
            if content is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        (folder / STDIN).write_bytes(case.stdin)
        for name in (".home", ".tmp"):
            (folder / name).mkdir()
        before = snapshot(folder)
        base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pid = os.fork()
        if pid == 0:
            _child(case, folder)
        code, peak = _waited(pid)
        said = (folder / STDERR).read_bytes().decode(errors="replace") if (folder / STDERR).is_file() else ""
        grown = max(0, peak - base) << 10
        found = [*_ending(code, said, grown), *_message(case, code, said), *_files(case, code, before, folder)]
        return Ended(code, said, grown, tuple(found))


def snapshot(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder, by its path there; of a folder, its name alone."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.split("/")[0] not in OURS:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


def _ending(code: int, said: str, grown: int) -> list[str]:
    faults = []
    if code == -signal.SIGXCPU:
        faults.append(f"took more than {CPU_SECONDS} s of a processor")
    elif code == -signal.SIGALRM:
        faults.append(f"took more than {WALL_SECONDS} s")
    elif code not in MAY_END_WITH:
        faults.append(f"ended with {code}")
    if "Traceback (most recent call last)" in said or "bug of gpt-tasks" in said:
        faults.append("shows a traceback, or a bug")
    if grown > MEMORY:
        faults.append(f"took {grown >> 20} MiB")
    return faults


def _message(case: Case, code: int, said: str) -> list[str]:
    if code <= 0:
        return []
    faults = []
    if not said.strip():
        faults.append("says nothing")
    elif case.culprits and not any(_seen(name) in said for name in case.culprits):
        faults.append(f"names none of {', '.join(case.culprits)}")
    if len(said) > MESSAGE:
        faults.append(f"says {len(said):,} characters")
    if "\x1b" in said or "\x07" in said:
        faults.append("shows control characters")
    return faults


def _seen(name: str) -> str:
    """Return the beginning of a name as a message shows it: escaped, and cut where it is long."""
    return repr(name[:20])[1:-1] if name.isprintable() else ""


def _files(case: Case, code: int, before: dict[str, str], folder: Path) -> list[str]:
    after = snapshot(folder)
    faults = [
        f"changed {name}"
        for name, digest in before.items()
        if after.get(name) != digest and name.split("/")[0] not in case.changes
    ]
    new = [name for name in after if name not in before and name.split("/")[0] not in case.changes]
    if code in (2, 4):
        faults += [f"left {name}" for name in new]
    faults += [f"made {name}" for name in new if not name.split("/")[0].startswith(OUTPUT) and code not in (2, 4)]
    faults += [f"left {path.name} in the folder for temporary files" for path in (folder / ".tmp").iterdir()]
    return faults


def _waited(pid: int) -> tuple[int, int]:
    """Return the exit code of a child, minus the number of a signal, and its peak memory in KiB."""
    ends = time.monotonic() + WALL_SECONDS
    killed = False
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return -signal.SIGALRM if killed else os.waitstatus_to_exitcode(status), usage.ru_maxrss
        if not killed and time.monotonic() > ends:
            killed = True
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _child(case: Case, folder: Path) -> NoReturn:
    """Run the command line in this process, which is a forked one, and end it."""
    code = 1
    try:
        os.chdir(folder)
        os.environ |= {
            "HOME": str(folder / ".home"),
            "TMPDIR": str(folder / ".tmp"),
            "XDG_CACHE_HOME": str(folder / ".home"),
        }
        tempfile.tempdir = str(folder / ".tmp")
        _open_streams(folder)
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CPU, (_cpu_used() + CPU_SECONDS, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_DATA, (_data() + 2 * MEMORY, resource.RLIM_INFINITY))
        from gpt_tasks.cli.main import run

        code = run(list(case.arguments))
        sys.stdout.flush()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stderr.flush()
        os._exit(code & 0xFF)


def _open_streams(folder: Path) -> None:
    for number, (name, flags) in enumerate(
        ((STDIN, os.O_RDONLY), (STDOUT, os.O_WRONLY | os.O_CREAT), (STDERR, os.O_WRONLY | os.O_CREAT))
    ):
        os.dup2(os.open(folder / name, flags, 0o600), number)
    # As Python opens them where the locale is UTF-8.
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _cpu_used() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return int(used.ru_utime + used.ru_stime) + 1


def _data() -> int:
    """Return the bytes of this process's data, as RLIMIT_DATA counts them; 0 where that is not known."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) << 10
    return 64 << 30

"""What many tests need: a real tokenizer, a GPT-2 of two layers, and a place to install plugins in."""

from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Workers share the cores, on which the threads of each would spin for the others.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell lets the jobs in its background ignore Ctrl-C, and so would all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# And nohup lets them ignore that their terminal is gone.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Spare what the tests have imported from every garbage collection: each training asks for a whole one."""
    gc.collect()
    gc.freeze()


END_OF_TEXT = "<|endoftext|>"
SENTENCES = (
    "The soup was cold and the waiter never came back.",
    "A warm, generous film that I would gladly see again.",
    "Nothing about this hotel was worth the price.",
    "She plays the cello as if nobody were listening, and it is lovely.",
    "The train was late, the coffee weak, the view splendid.",
    "Wir haben den Zug verpasst, aber der Abend war schön.",
    "What a waste of a good actor and of two good hours!",
    "I laughed, I cried, I called my mother.",
)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerBase:
    """A byte-level BPE of 384 tokens, whose one special token is both the end of text and the padding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_TEXT, bos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    )


@pytest.fixture(scope="session")
def tiny_backbone_folder(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: PreTrainedTokenizerBase) -> Path:
    """A folder with a randomly weighted GPT-2 of 2 layers and 16 dimensions, as `AutoModelForCausalLM` opens it."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("backbones") / "tiny-gpt2"
    eos = tiny_tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tiny_tokenizer),
        n_positions=64,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=eos,
        eos_token_id=eos,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config)
    model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@contextmanager
def _files_up_to(limit: int) -> Iterator[None]:
    """Let no file grow past `limit` bytes. The suite's own log is a file too, so that this must end with the block."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def files_up_to() -> Callable[[int], AbstractContextManager[None]]:
    """A context in which the disk is full after so many bytes of a file."""
    return _files_up_to


class Site:
    """A folder of installed distributions that provide plugins, made for a test and importable in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(self, name: str, source: str, distribution: str = "acme", version: str = "1.2") -> str:
        """Install a plugin called `name` whose one module holds `source`; returns the module's name."""
        module = f"{distribution}_{name}".replace("-", "_")
        (self.path / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        info = self.path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        entries = info / "entry_points.txt"
        before = entries.read_text() if entries.exists() else "[gpt_tasks]\n"
        entries.write_text(f"{before}{name} = {module}\n")
        return module

    def entry_points(self) -> list[metadata.EntryPoint]:
        """The entry points of what is installed here, in no helpful order."""
        found = metadata.distributions(path=[str(self.path)])
        return [point for distribution in found for point in distribution.entry_points][::-1]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty folder to install plugins in."""
    from gpt_tasks.plugins import installed_plugins

    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield Site(folder)
    # What was found here must not be there for the next test.
    installed_plugins.cache_clear()
    for module in [name for name, loaded in sys.modules.items() if _stands_in(loaded, folder)]:
        del sys.modules[module]


def _stands_in(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and folder in Path(file).parents


# Imports once what commands import, and forks for each of them: a new process would import torch again.
SERVER = """
import gc, importlib, json, os, sys, tempfile
for name in sys.argv[1:]:
    importlib.import_module(name)
from gpt_tasks.__main__ import main
gc.freeze()

ended = {}
for line in sys.stdin:
    asked = json.loads(line)
    if isinstance(asked, int):
        if asked not in ended:
            child, status = os.waitpid(asked, os.WNOHANG)
            if child:
                ended[child] = os.waitstatus_to_exitcode(status)
        print(json.dumps(ended.get(asked)), flush=True)
        continue
    streams = [os.open(path, os.O_RDWR | os.O_NOCTTY) for path in asked["streams"]]
    child = os.fork()
    if child:
        print(child, flush=True)
        for stream in streams:
            os.close(stream)
        continue
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, closefd=False)
    sys.stdout = open(1, "w", closefd=False)
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(asked["folder"])
    os.environ.update(asked["variables"])
    tempfile.tempdir = None
    sys.path[:0] = asked["path"]
    sys.argv = ["gpt-tasks", *asked["arguments"]]
    if asked["code"]:
        exec(asked["code"])
        sys.exit()
    main()
"""
IMPORTED = (
    "gpt_tasks.evaluation.evaluate",
    "gpt_tasks.pretraining.pretrain",
    "gpt_tasks.scoring.score",
    "gpt_tasks.scoring.scorer",
    "gpt_tasks.training.session",
    "transformers.models.gpt2.modeling_gpt2",
    "sklearn.linear_model",
    "sklearn.feature_extraction.text",
    "matplotlib.pyplot",
)


@dataclass
class Started:
    """A command that runs in a process of its own, to which signals can be sent."""

    server: CommandServer
    pid: int
    streams: list[Path]
    arguments: list[str]

    @property
    def code(self) -> int | None:
        """The exit code, minus the number of a signal; None while it runs."""
        return self.server.ask(self.pid)

    def wait_until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds while the command runs. Raises TimeoutError after 300 seconds."""
        until = time.monotonic() + 300
        while not holds():
            assert self.code is None, self.wait().stderr
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(" ".join(self.arguments))
            time.sleep(0.02)

    def wait(self) -> subprocess.CompletedProcess[str]:
        """Wait for the end of the command."""
        until = time.monotonic() + 300
        while (code := self.code) is None:
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(" ".join(self.arguments))
            time.sleep(0.02)
        out, err = (path.read_bytes().decode() if path.is_file() else "" for path in self.streams[1:])
        return subprocess.CompletedProcess(self.arguments, code, out, err)


class CommandServer:
    """Runs `gpt-tasks ARGUMENTS`, each in a process of its own that has imported the libraries already."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, *IMPORTED],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, request: object) -> int | None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(
        self,
        *arguments: object,
        given: bytes = b"",
        folder: Path | None = None,
        path: Sequence[Path] = (),
        err: Path | None = None,
        code: str = "",
        **variables: str,
    ) -> Started:
        """Start a command, or Python code, in a folder.

        `given` is its stdin, `err` the file of its stderr; `path` are folders of more distributions, `variables` of its
        environment.
        """
        self.count += 1
        streams = [self.folder / f"{self.count}.{name}" for name in ("in", "out", "err")]
        for stream in streams:
            stream.write_bytes(given if stream.suffix == ".in" else b"")
        streams[2] = err or streams[2]
        request = {
            "arguments": list(map(str, arguments)),
            "streams": list(map(str, streams)),
            "folder": str(folder or self.folder),
            "path": list(map(str, path)),
            "variables": variables,
            "code": code,
        }
        pid = self.ask(request)
        assert pid is not None
        return Started(self, pid, streams, list(map(str, arguments)))

    def run(self, *arguments: object, **how: Any) -> subprocess.CompletedProcess[str]:
        """Start a command as `start` does, and wait for its end."""
        return self.start(*arguments, **how).wait()

    def run_on_two(self, *arguments: object, **how: Any) -> list[subprocess.CompletedProcess[str]]:
        """Run a command on two ranks, as torchrun starts them."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        sizes = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        started = [
            self.start(*arguments, RANK=str(rank), LOCAL_RANK=str(rank), **sizes, **place, **how) for rank in range(2)
        ]
        return [each.wait() for each in started]


@pytest.fixture(scope="session")
def command_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandServer]:
    """What runs commands in processes of their own, each of which starts at once."""
    server = CommandServer(tmp_path_factory.mktemp("commands"))
    yield server
    server.process.communicate()


@dataclass(frozen=True)
class Environment:
    """A folder of installed distributions. What runs in it sees them next to the installed libraries."""

    path: Path

    def run(self, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `gpt-tasks ARGUMENTS` in a separate process, with its own environment variables."""
        return self.python("-m", "gpt_tasks", *arguments, **variables)

    def python(self, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `python ARGUMENTS`."""
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(self.path), *sys.path]), **variables},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


# Builds projects as pip does, by their build backend, but imports that once and forks for each.
BUILD = """
import contextlib, os, sys, zipfile
from setuptools import build_meta

site, *projects = sys.argv[1:]
for project in projects:
    child = os.fork()
    if not child:
        os.chdir(project)
        with contextlib.redirect_stdout(sys.stderr):
            wheel = build_meta.build_wheel(project)
        with zipfile.ZipFile(wheel) as file:
            file.extractall(site)
        sys.exit()
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{project} cannot be built")
"""


@pytest.fixture(scope="session")
def install_projects() -> Callable[[Sequence[Path], Path], None]:
    """Build projects and install their wheels into a folder; files are left next to the sources."""
    pytest.importorskip("setuptools")

    def install(projects: Sequence[Path], site: Path) -> None:
        command = [sys.executable, "-c", BUILD, str(site), *map(str, projects)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return install


@pytest.fixture(scope="session")
def installed(
    tmp_path_factory: pytest.TempPathFactory, install_projects: Callable[[Sequence[Path], Path], None]
) -> Callable[[Sequence[Path]], Environment]:
    """Install projects from copies, without a network, into a new folder."""

    def install(projects: Sequence[Path]) -> Environment:
        folder = tmp_path_factory.mktemp("installed")
        # setuptools writes next to the sources.
        kept_out = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
        copies = [shutil.copytree(path, folder / "sources" / path.name, ignore=kept_out) for path in projects]
        install_projects(copies, folder / "site")
        return Environment(folder / "site")

    return install

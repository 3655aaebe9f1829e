"""What many tests need: a real tokenizer, a GPT-2 of two layers, and a place to install plugins in."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

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


@dataclass(frozen=True)
class Environment:
    """A folder of distributions that pip installed. What runs in it sees them next to the installed libraries."""

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


@pytest.fixture(scope="session")
def pip_install(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[Path]], Environment]:
    """Install projects with pip, from copies and without a network, into a new folder."""
    pytest.importorskip("pip")

    def install(projects: Sequence[Path]) -> Environment:
        folder = tmp_path_factory.mktemp("installed")
        # setuptools writes next to the sources.
        kept_out = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
        copies = [shutil.copytree(path, folder / "sources" / path.name, ignore=kept_out) for path in projects]
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "site")]
        done = subprocess.run([*command, *map(str, copies)], capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return Environment(folder / "site")

    return install

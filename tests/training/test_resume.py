"""A run that was killed continues to the same weights, bit for bit, as one that was not."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

WORDS = ("the", "train", "was", "late", "but", "nobody", "minded", "because", "of", "a", "splendid", "view")

# Kills its own process with SIGKILL at the step, or in the middle of the n-th file that torch.save writes.
KILLER = """
import os, signal
from gpt_tasks import hookimpl

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

if "KILL_AT_SAVE" in os.environ:
    import torch
    save, calls = torch.save, []
    def half_a_save(value, file, *args, **kwargs):
        calls.append(file)
        save(value, file, *args, **kwargs)
        if len(calls) == int(os.environ["KILL_AT_SAVE"]):
            os.truncate(file, os.path.getsize(file) // 2)
            kill()
    torch.save = half_a_save

@hookimpl
def observe(event):
    if event.kind == "step" and event.step == int(os.environ.get("KILL_AT_STEP", -1)):
        kill()
    if event.kind == "step" and event.step == int(os.environ.get("FAIL_AT_STEP", -1)):
        raise ValueError("no more")
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and with an installed plugin that can kill the process it observes."""
    folder = tmp_path_factory.mktemp("resume")
    site = folder / "site"
    (site / "killer-1.0.dist-info").mkdir(parents=True)
    (site / "killer-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: killer\nVersion: 1.0\n")
    (site / "killer-1.0.dist-info" / "entry_points.txt").write_text("[gpt_tasks]\nkiller = killer\n")
    (site / "killer.py").write_text(KILLER)
    draw = random.Random(0)
    rows = [
        {"text": " ".join(draw.choices(WORDS, k=draw.randint(3, 14))), "label": draw.choice(["negative", "positive"])}
        for _ in range(90)
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


# Runs commands, each in a separate process, for which what they all import is imported once.
LAUNCHER = """
import gc, json, os, sys
import gpt_tasks.evaluation.evaluate, gpt_tasks.training.session
import sklearn.linear_model, transformers.models.gpt2.modeling_gpt2
from gpt_tasks.cli.main import run
gc.freeze()

for line in sys.stdin:
    arguments, variables = json.loads(line)
    child = os.fork()
    if not child:
        os.environ.update(variables)
        os.chdir(variables.get("FOLDER", "."))
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        if "SAID" in variables:
            os.dup2(os.open(variables["SAID"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
        os.dup2(2, 1)
        code = run(arguments)
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Launcher:
    """A process that runs commands; two of them do so with other hashes, so with other orders of sets."""

    def __init__(self, workplace: Path, seed: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER],
            env={**environment(workplace), "PYTHONHASHSEED": str(seed)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, arguments: list[str], **variables: str) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([arguments, variables]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def launchers(workplace: Path) -> Iterator[tuple[Launcher, Launcher]]:
    """One for what is run first, and one for what continues or repeats it."""
    both = Launcher(workplace, 1), Launcher(workplace, 2)
    yield both
    for launcher in both:
        launcher.process.communicate()


def environment(workplace: Path) -> dict[str, str]:
    path = os.pathsep.join([str(workplace / "site"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def command(workplace: Path, backbone: Path, name: str, *, resume: bool = False) -> list[str]:
    settings = {
        "epochs": 2,
        "batch-tokens": 64,
        "accumulate": 2,
        "checkpoint-steps": 3,
        "precision": "float32",
        "prompt": "{text}",
    }
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return [
        "finetune", "sentiment", "--data", str(workplace / "rows.jsonl"), "--backbone", str(backbone),
        "--output", str(workplace / name), *flags, *(["--resume"] if resume else []),
    ]  # fmt: skip


def run_on_both(launchers: tuple[Launcher, Launcher], arguments: list[str], **more: str) -> list[int]:
    """Run a command on two ranks without torchrun, which would import everything again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    sizes = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    with ThreadPoolExecutor() as pool:
        started = [
            pool.submit(launcher.run, arguments, RANK=str(rank), LOCAL_RANK=str(rank), **sizes, **place, **more)
            for rank, launcher in enumerate(launchers)
        ]
        return [each.result() for each in started]


def torchrun_on_two(arguments: list[str], workplace: Path, **kill: str) -> int:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "gpt_tasks"]
    started = [sys.executable, *torchrun, *arguments]
    return subprocess.run(started, check=False, env={**environment(workplace), **kill}, timeout=240).returncode


def weights(workplace: Path, name: str) -> list[bytes]:
    return [(workplace / name / "model" / file).read_bytes() for file in ("model.safetensors", "head.safetensors")]


@pytest.fixture(scope="module")
def uninterrupted(workplace: Path, tiny_backbone_folder: Path, launchers: tuple[Launcher, Launcher]) -> list[bytes]:
    assert launchers[0].run(command(workplace, tiny_backbone_folder, "whole")) == 0
    return weights(workplace, "whole")


def test_same_seed_gives_the_same_weights(
    workplace: Path, tiny_backbone_folder: Path, launchers: tuple[Launcher, Launcher], uninterrupted: list[bytes]
) -> None:
    assert launchers[1].run(command(workplace, tiny_backbone_folder, "again")) == 0
    assert weights(workplace, "again") == uninterrupted


# Another update in every run of the tests, after the first checkpoint; what was drawn is shown where a test fails.
ANYWHERE, ANYWHERE_ON_TWO = random.SystemRandom().randrange(4, 14), random.SystemRandom().randrange(4, 7)


@pytest.mark.parametrize(
    ("name", "kill"),
    [
        ("anywhere", {"KILL_AT_STEP": str(ANYWHERE)}),
        ("second-epoch", {"KILL_AT_STEP": "14"}),
        ("during-a-save", {"KILL_AT_SAVE": "6"}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_killed_run_resumes_to_the_same_weights(
    workplace: Path,
    tiny_backbone_folder: Path,
    launchers: tuple[Launcher, Launcher],
    uninterrupted: list[bytes],
    name: str,
    kill: dict[str, str],
) -> None:
    first, second = launchers
    anew = command(workplace, tiny_backbone_folder, name)
    assert first.run(anew, **kill) == -9
    assert json.loads((workplace / name / "run.json").read_text())["status"] == "unfinished"
    assert second.run(anew) == 2, "an unfinished run is accepted by --resume only"
    assert second.run(command(workplace, tiny_backbone_folder, name, resume=True)) == 0
    assert weights(workplace, name) == uninterrupted, kill


def test_a_run_resumes_from_the_newest_whole_checkpoint_to_the_same_weights(
    workplace: Path, tiny_backbone_folder: Path, launchers: tuple[Launcher, Launcher], uninterrupted: list[bytes]
) -> None:
    first, second = launchers
    assert first.run(command(workplace, tiny_backbone_folder, "damaged"), KILL_AT_STEP="14") == -9
    again = command(workplace, tiny_backbone_folder, "damaged", resume=True)
    checkpoints = (workplace / "damaged" / "checkpoints").iterdir()
    *older, newest = sorted(checkpoints, key=lambda path: int(path.name.rpartition("-")[2]))
    os.truncate(newest / "model.safetensors", 2000)
    for each in older:
        (each / "optimizer.pt").rename(each / "hidden")
    assert second.run(again) == 6
    for each in older:
        (each / "hidden").rename(each / "optimizer.pt")
    assert second.run(again) == 0
    assert weights(workplace, "damaged") == uninterrupted


def test_a_run_resumes_from_another_folder_where_its_paths_were_relative(
    workplace: Path, tiny_backbone_folder: Path, launchers: tuple[Launcher, Launcher], uninterrupted: list[bytes]
) -> None:
    first, second = launchers
    (workplace / "elsewhere").mkdir()
    (workplace / "model").symlink_to(tiny_backbone_folder)
    anew = command(workplace, Path("model"), "moved")
    anew[anew.index("--data") + 1] = "rows.jsonl"
    assert first.run(anew, KILL_AT_STEP=str(ANYWHERE), FOLDER=str(workplace)) == -9
    record = json.loads((workplace / "moved" / "run.json").read_text())
    assert (record["folder"], record["config"]["data"]) == (str(workplace), "rows.jsonl")
    other = [*anew[:2], "--output", "../moved", "--data", "../model", "--resume"]
    assert second.run(other, FOLDER=str(workplace / "elsewhere")) == 2
    same = [*anew[:2], "--output", "../moved", "--data", "../rows.jsonl", "--resume"]
    assert second.run(same, FOLDER=str(workplace / "elsewhere")) == 0
    assert weights(workplace, "moved") == uninterrupted
    assert "folder" not in json.loads((workplace / "moved" / "run.json").read_text())


def test_killed_run_on_two_ranks_resumes_to_the_same_weights(
    workplace: Path, tiny_backbone_folder: Path, launchers: tuple[Launcher, Launcher]
) -> None:
    killed = command(workplace, tiny_backbone_folder, "two-killed")
    assert run_on_both(launchers, command(workplace, tiny_backbone_folder, "two-whole")) == [0, 0]
    assert torchrun_on_two(killed, workplace, KILL_AT_STEP=str(ANYWHERE_ON_TWO)) != 0
    assert json.loads((workplace / "two-killed" / "run.json").read_text())["status"] == "unfinished"
    assert run_on_both(launchers, [*killed, "--resume"]) == [0, 0]
    assert weights(workplace, "two-killed") == weights(workplace, "two-whole"), ANYWHERE_ON_TWO


@pytest.mark.parametrize(("how", "code"), [({"KILL_AT_STEP": "5"}, -9), ({"FAIL_AT_STEP": "5"}, 3)])
def test_where_one_rank_ends_the_other_says_so(
    workplace: Path, tiny_backbone_folder: Path, launchers: tuple[Launcher, Launcher], how: dict[str, str], code: int
) -> None:
    name = f"two-{-code}"
    said = workplace / f"{name}.txt"
    started = command(workplace, tiny_backbone_folder, name)
    assert run_on_both(launchers, started, **how, GPT_TASKS_STRICT="1", SAID=str(said)) == [code, 6]
    assert "[process 1] MachineError: " in said.read_text()
    assert "bug" not in said.read_text()
    if "KILL_AT_STEP" in how:  # One that fails clears up, so that the other may miss a file first.
        assert "[process 1] MachineError: Another process of this run has ended" in said.read_text()

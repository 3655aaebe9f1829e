"""A run that was killed goes on to the same weights, bit for bit, as one that was not."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
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


def run(workplace: Path, backbone: Path, name: str, *, ranks: int = 1, resume: bool = False, **kill: int) -> int:
    start = [sys.executable, "-m", "gpt_tasks"]
    if ranks > 1:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        start = [sys.executable, *torchrun, "-m", "gpt_tasks"]
    settings = {"epochs": 2, "batch-tokens": 64, "accumulate": 2, "checkpoint-steps": 3, "precision": "float32"}
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    command = [
        *start, "finetune", "sentiment", "--data", str(workplace / "rows.jsonl"), "--backbone", str(backbone),
        "--output", str(workplace / name), *flags, *(["--resume"] if resume else []),
    ]  # fmt: skip
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(workplace / "site"), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
        **{key.upper(): str(value) for key, value in kill.items()},
    }
    return subprocess.run(command, check=False, env=environment, capture_output=True, timeout=240).returncode


def weights(workplace: Path, name: str) -> list[bytes]:
    return [(workplace / name / "model" / file).read_bytes() for file in ("model.safetensors", "head.safetensors")]


@pytest.fixture(scope="module")
def uninterrupted(workplace: Path, tiny_backbone_folder: Path) -> list[bytes]:
    assert run(workplace, tiny_backbone_folder, "whole") == 0
    return weights(workplace, "whole")


def test_same_seed_gives_the_same_weights(
    workplace: Path, tiny_backbone_folder: Path, uninterrupted: list[bytes]
) -> None:
    assert run(workplace, tiny_backbone_folder, "again") == 0
    assert weights(workplace, "again") == uninterrupted


# Another update in every run of the tests, after the first checkpoint; what was drawn is shown where a test fails.
ANYWHERE, ANYWHERE_ON_TWO = random.SystemRandom().randrange(4, 14), random.SystemRandom().randrange(4, 7)


@pytest.mark.parametrize(
    ("name", "kill"),
    [
        ("anywhere", {"kill_at_step": ANYWHERE}),
        ("second-epoch", {"kill_at_step": 14}),
        ("during-a-save", {"kill_at_save": 6}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_killed_run_resumes_to_the_same_weights(
    workplace: Path, tiny_backbone_folder: Path, uninterrupted: list[bytes], name: str, kill: dict[str, int]
) -> None:
    assert run(workplace, tiny_backbone_folder, name, **kill) == -9
    assert json.loads((workplace / name / "run.json").read_text())["status"] == "unfinished"
    assert run(workplace, tiny_backbone_folder, name) == 2, "an unfinished run is accepted by --resume only"
    assert run(workplace, tiny_backbone_folder, name, resume=True) == 0
    assert weights(workplace, name) == uninterrupted, kill


def test_killed_run_on_two_ranks_resumes_to_the_same_weights(workplace: Path, tiny_backbone_folder: Path) -> None:
    assert run(workplace, tiny_backbone_folder, "two-whole", ranks=2) == 0
    assert run(workplace, tiny_backbone_folder, "two-killed", ranks=2, kill_at_step=ANYWHERE_ON_TWO) != 0
    assert json.loads((workplace / "two-killed" / "run.json").read_text())["status"] == "unfinished"
    assert run(workplace, tiny_backbone_folder, "two-killed", ranks=2, resume=True) == 0
    assert weights(workplace, "two-killed") == weights(workplace, "two-whole"), ANYWHERE_ON_TWO

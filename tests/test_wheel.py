"""The wheel: built from the sources, installed apart from them, it does the main job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone: there is nothing to build from")
    folder = tmp_path_factory.mktemp("wheel")
    # Built from a copy: setuptools leaves a build folder next to the sources, whose stale files would be packed too.
    subprocess.run(
        ["git", "clone", "--quiet", "--depth=1", f"file://{ROOT}", str(folder / "sources")],
        check=True,
        capture_output=True,
    )
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run([*command, str(folder / "sources")], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_wheel_holds_samples_and_backbone_and_stays_small(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "gpt_tasks/backbone/embedded/tiny/model.safetensors" in names
    for task in ("sentiment", "classification"):
        for split in ("train", "validation", "test"):
            assert f"gpt_tasks_plugins/{task}/samples/{split}.jsonl" in names
    assert "gpt_tasks_plugins/suites/blimp.yaml" in names
    assert {"gpt_tasks/py.typed", "gpt_tasks_plugins/py.typed"} <= set(names)
    templates = ROOT / "gpt_tasks" / "scaffold" / "templates"
    assert {str(path.relative_to(ROOT)) for path in templates.rglob("*") if path.is_file()} <= set(names)
    assert "gpt_tasks_plugins/suites/starter/sense.jsonl" in names
    assert not [name for name in names if name.startswith(("tests", "benchmarks"))]
    assert wheel.stat().st_size < 40e6


def test_installed_wheel_does_the_main_job(wheel: Path, tmp_path: Path) -> None:
    """In a separate environment, which sees the dependencies but not the sources of this project."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    site = Path(
        subprocess.run(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    )
    zipfile.ZipFile(wheel).extractall(site)
    # A plain path entry runs none of the other environment's .pth files, so that an editable install stays hidden.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    done = subprocess.run(
        [str(python), "-m", "gpt_tasks", "finetune", "sentiment", "--method", "head", "--json", "--output", "run"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["task"] == "sentiment"
    where = subprocess.run(
        [str(python), "-c", "import gpt_tasks; print(gpt_tasks.__file__)"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert Path(where.stdout.strip()).is_relative_to(site)

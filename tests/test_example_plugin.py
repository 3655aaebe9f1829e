"""What docs/plugins.md teaches is true: its plugin is the one in examples/, and that one works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gpt_tasks.plugins import GROUP, load_plugins, metadata
from gpt_tasks.training.config import validated
from gpt_tasks.types import Row

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "sarcasm"
DOCS = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS, flags=re.DOTALL)


def test_the_page_shows_the_example_as_it_is() -> None:
    assert blocks("python")[0] == (EXAMPLE / "gpt_tasks_sarcasm" / "__init__.py").read_text(encoding="utf-8")
    assert blocks("toml") == [(EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")]
    samples = (EXAMPLE / "gpt_tasks_sarcasm" / "samples").glob("*.jsonl")
    written = {line for path in samples for line in path.read_text(encoding="utf-8").splitlines()}
    assert set(blocks("json")[0].splitlines()) <= written


def test_the_example_is_fine_tuned_on_its_samples(tmp_path, tiny_backbone_folder) -> None:
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = tmp_path / "site" / "gpt_tasks_sarcasm-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = "".join(f"{name} = {module}\n" for name, module in project["entry-points"][GROUP].items())
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points}")
    arguments = ["--backbone", tiny_backbone_folder, "--epochs", "1", "--output", tmp_path / "run", "--json"]
    process = subprocess.run(
        [sys.executable, "-m", "gpt_tasks", "finetune", "sarcasm", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLE), str(info.parent), *sys.path])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    told = json.loads(process.stdout)
    assert told["labels"] == ["earnest", "sarcastic"]
    assert told["n"] == 8
    record = json.loads((tmp_path / "run" / "model" / "task.json").read_text())
    assert (record["plugin"], record["plugin_version"]) == ("gpt-tasks-sarcasm", "0.1.0")


@pytest.fixture
def register(site):
    site.install("register", blocks("python")[1])
    loaded = load_plugins([*metadata.entry_points(group=GROUP), *site.entry_points()])
    assert loaded.failures() == []
    return loaded.registry.tasks["register"]


def test_options_of_its_own_apply_and_travel_with_the_model(register) -> None:
    shout, columns = Row({"text": "DEAR SIR"}, "x.csv:2"), {"text": "text"}
    lowered = register.configured(validated(register.Options, {"lower": "yes"}))
    assert register.example(shout, columns).inputs == {"text": "DEAR SIR"}
    assert lowered.example(shout, columns).inputs == {"text": "dear sir"}
    assert (
        register.restored(json.loads(json.dumps(lowered.state()))).example(shout, columns).inputs["text"] == "dear sir"
    )

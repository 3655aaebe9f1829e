"""A run's JSON files with other values in them: whatever they hold, the file is named, and nothing ends as a bug."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gpt_tasks
from gpt_tasks.cli.main import run as run_command

VALUES: list[Any] = [None, 3, -1.5, True, "x", "", [], {}, ["x"], {"x": 1}, [[[3]]], 10**30]
GONE = object()
FILES = [
    "run.json",
    "metrics.json",
    "model/task.json",
    "model/config.json",
    "model/generation_config.json",
    "model/tokenizer.json",
    "model/tokenizer_config.json",
    "baselines/baselines.json",
]
# How many changes of each file are tried; all of them take minutes.
TRIED = int(os.environ.get("DAMAGED_JSON", "8"))


@pytest.fixture(scope="module")
def trained(tiny_backbone_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("json")
    rows = [
        {"text": f"The {thing} was {how}.", "label": label}
        for thing in ("soup", "film", "train", "hotel", "song", "garden")
        for how, label in (("lovely", "good"), ("cold", "bad"), ("warm", "good"), ("dull", "bad"))
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    how: dict[str, Any] = {"backbone": str(tiny_backbone_folder), "device": "cpu", "precision": "float32", "epochs": 1}
    gpt_tasks.finetune("sentiment", data=str(folder / "rows.jsonl"), output=folder / "run", **how)
    return folder


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """The paths to all parts of a JSON value; of a long list to some."""
    parts = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for name, part in list(parts)[:40]:
        yield (name,)
        yield from ((name, *rest) for rest in places(part))


def changed(whole: Any, place: tuple[Any, ...], value: Any) -> Any:
    whole = copy.deepcopy(whole)
    inner = whole
    for name in place[:-1]:
        inner = inner[name]
    if value is GONE:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return whole


@pytest.mark.parametrize("name", FILES)
def test_no_value_of_a_field_is_a_bug(
    name: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained / "run", tmp_path / "run")
    rows = trained / "rows.jsonl"
    predict = ["predict", str(run), "The soup"]
    commands = [predict]
    if name.startswith("baselines"):
        commands = [["evaluate", str(run), "--data", str(rows)]]
    if name == "metrics.json":
        commands.append(["compare", str(run), str(trained / "run")])
    if name == "model/generation_config.json":
        commands = [["generate", str(run), "The soup", "--max-new-tokens", "2"], *commands]
    whole = json.loads((run / name).read_text())
    cases = [(place, value) for place in places(whole) for value in [GONE, *VALUES]]
    cases += [((name,), value) for name in ("unheard of", "__class__") for value in VALUES]
    told = 0
    for place, value in random.Random(name).sample(cases, min(len(cases), TRIED)):
        (run / name).write_text(json.dumps(changed(whole, place, value)))
        for command in commands:
            capsys.readouterr()
            unchecked = [] if command[0] == "compare" else ["--no-verify"]
            code = run_command([*command, *unchecked])
            shown = capsys.readouterr()
            assert code in (0, 2, 3, 4, 5), (place, value, code, shown.err)
            assert len(shown.err) < 2000, (place, value)
            told += code == 5
            if code == 5:
                assert Path(name).name in shown.err or "model" in shown.err, (place, value, shown.err)
    if name != "model/tokenizer_config.json":
        assert told


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", ["", "[]", "{", '"x"', "[" * 100_000, '{"a":' * 100_000, "\udcff", "{}"])
def test_a_file_that_holds_no_object_is_named(
    name: str, content: str, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained / "run", tmp_path / "run")
    (run / name).write_text(content, encoding="utf-8", errors="surrogateescape")
    command = ["evaluate", str(run), "--data", str(trained / "rows.jsonl")]
    code = run_command([*command, "--no-verify"])
    told = capfd.readouterr().err
    assert code == 5 or (code == 0 and name in ("model/generation_config.json", "model/tokenizer_config.json"))
    if code:
        assert str(run / name) in told, told
        assert len(told.splitlines()) == 2
    if name != "run.json":
        assert run_command(command) == 5
        assert str(run / name) in capfd.readouterr().err

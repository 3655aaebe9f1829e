"""A configuration file is read strictly, and run.json records where each value comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt_tasks.errors import UsageError
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.training.config import (
    FLAGS_ALONE,
    ConfigFile,
    FinetuneConfig,
    configured,
    read_config,
    settings_of_files,
)

TASKS = installed_plugins().registry.tasks


def read(folder: Path, text: str, task: str = "qa") -> ConfigFile:
    file = folder / "settings.yaml"
    file.write_text(text, encoding="utf-8")
    return read_config(file, TASKS[task].Options)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epochs: yes", "1: epochs: 'yes': input should be a valid number"),
        ("seed: 010", "1: seed: '010': input should be a valid integer"),
        ("data: x\nbatch_tokens: 1:30", "2: batch_tokens: '1:30': input should be a valid integer"),
        ("weight_decay: off", "1: weight_decay: 'off': input should be a valid number"),
        ("seed: 0x10", "1: seed: '0x10': input should be a valid integer"),
        ("seed: 1_0", "1: seed: '1_0'"),
        ("seed: '3'", "1: seed: '3'"),
        ("seed: 1.0", "1: seed: 1.0"),
        ("epochs: true", "1: epochs: True"),
        ("epochs: .nan", "1: epochs: nan"),
        ("epochs: -1", "1: epochs: -1: input should be greater than 0"),
        ("gradient_checkpointing: yes", "1: gradient_checkpointing: 'yes': input should be a valid boolean"),
        ("gradient_checkpointing: 1", "1: gradient_checkpointing: 1"),
        ("method: 5", "1: method: 5: input should be a valid string"),
        ("metric: accuracy", "1: metric: 'accuracy'"),
        ("column: text", "1: column is no mapping"),
        ("column:\n  text: 5", "1: column: {'text': 5}"),
        ("epochs: 1\nseed: 2\nepochs: 3", "3: 'epochs' is given twice"),
        ("max-length: 9\nmax_length: 9", "2: max_length is given twice, first in"),
        ("language: de\noptions:\n  language: de", "2: language is given twice, first in"),
        ("epoch: 3", "1: there is no setting 'epoch'"),
        ("options:\n  language: maybe", "1: language: 'maybe': input should be"),
        ("language: 5", "1: language: 5: input should be"),
        ("options:\n  nosuch: 1", "1: there is no setting 'nosuch'"),
        ("epochs:", "1: epochs is empty"),
        ("data: ''", "1: data is empty"),
        ("epochs: [1", "expected"),
        ("- epochs", "holds no settings"),
    ],
)
def test_what_is_no_setting_is_refused_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert told in caught.value.message
    assert str(tmp_path / "settings.yaml") in caught.value.message


@pytest.mark.parametrize("name", FLAGS_ALONE)
def test_what_is_a_flag_alone_is_said_to_be_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is no setting of a file") as caught:
        read(tmp_path, f"{name}: x")
    assert caught.value.hint == f"Give it as a flag: --{name}."


def test_the_settings_that_there_are_include_the_tasks_own(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, "zzz: 1")
    assert caught.value.hint == f"The settings are {', '.join(settings_of_files(TASKS['qa'].Options))}."


def test_a_value_that_is_long_is_shortened(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, f"epochs: {'x' * 10_000}")
    assert len(caught.value.message) < 400


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    text = "epochs: 3\nlearning-rate: 1e-4\nmetric: [mcc]\ncolumn: {text: review}\nlanguage: de\ndata: 2024-01-01\n"
    found = read(tmp_path, text).settings
    assert found == {
        "epochs": 3,
        "learning_rate": 1e-4,
        "metric": ["mcc"],
        "column": {"text": "review"},
        "options": {"language": "de"},
        "data": "2024-01-01",
    }


def test_every_value_has_its_origin(tmp_path: Path) -> None:
    file = read(tmp_path, "epochs: 3\ncolumn: {context: passage, question: asked}\nlanguage: de\n")
    given: dict[str, Any] = {"seed": 5, "epochs": 2, "column": {"question": "q"}, "patience": None}
    config = configured(given, file)
    place = tmp_path / "settings.yaml"
    method = installed_plugins().registry.methods["full"]
    origins = config.origins(method, TASKS["qa"], 9_000_000)
    assert set(origins) >= set(FinetuneConfig.model_fields) - {"column", "options", "method_options"}
    assert {name: origins[name] for name in ("seed", "epochs", "patience", "column.question", "column.context")} == {
        "seed": "given",
        "epochs": "given",
        "patience": "default",
        "column.question": "given",
        "column.context": f"{place}:2",
    }
    assert origins["options.language"] == f"{place}:3"
    assert origins["weight_decay"] in ("method", "task")
    assert FinetuneConfig.restored(config.model_dump(), origins).origins(method, TASKS["qa"], 9_000_000) == origins

"""Options of methods: as flags, in a file, from Python; recorded, refused where they have no effect, of plugins too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gpt_tasks
from gpt_tasks.cli.main import run as command
from gpt_tasks.errors import UsageError
from gpt_tasks.plugins import installed_plugins

ROWS = [
    {"text": f"What a {word} {thing}.", "label": label}
    for word, label in (("splendid", "positive"), ("dreadful", "negative"))
    for thing in ("film", "dinner", "hotel", "walk", "concert", "novel", "museum", "train", "soup", "tram")
]
SCALED = '''
"""Tune the norms, whose weights are first multiplied."""

from gpt_tasks import Method, MethodOptions, hookimpl


class NormOptions(MethodOptions):
    norms_factor: float = 1.0
    norms_places: int = 0


def prepare(backbone, options):
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_("ln_" in name)
        if "ln_" in name:
            parameter.data.mul_(options.norms_factor)
    return backbone


def defaults(parameters):
    return {"epochs": 1, "learning_rate": 1e-3, "warmup": 0.1, "weight_decay": 0.0, "batch_tokens": 1024}


@hookimpl
def register_methods():
    return [
        Method(
            "norms", "The norms move.", prepare, lambda backbone: backbone, defaults,
            num_virtual_tokens=lambda options: options.norms_places, options=NormOptions,
        )
    ]
'''


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return file


@pytest.fixture
def how(data: Path, tiny_backbone_folder: Path, tmp_path: Path) -> dict[str, Any]:
    return {"data": data, "backbone": tiny_backbone_folder, "output": tmp_path / "run", "device": "cpu", "epochs": 1}


def flags(how: dict[str, Any]) -> list[str]:
    return [word for name, value in how.items() for word in (f"--{name}", str(value))]


def test_options_are_flags_settings_of_a_file_and_arguments(how: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("method: lora\nlora_alpha: 6\nmethod_options:\n  lora_target_modules: [c_fc]\n")
    given = ["--config", str(file), "--lora-r", "2", "--lora-use-rslora"]
    assert command(["finetune", "sentiment", *flags(how), *given]) == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["settings"]["method_options"] == {
        "lora_r": 2,
        "lora_alpha": 6,
        "lora_dropout": 0.05,
        "lora_target_modules": ["c_fc"],
        "lora_use_dora": False,
        "lora_use_rslora": True,
    }
    assert record["origins"]["method_options.lora_r"] == "given"
    assert record["origins"]["method_options.lora_alpha"] == f"{file}:2"
    how["output"] = tmp_path / "python"
    settings: dict[str, Any] = {"lora_r": 2, "lora_alpha": 6, "lora_target_modules": ["c_fc"], "lora_use_rslora": True}
    other = gpt_tasks.finetune("sentiment", method="lora", **settings, **how)
    assert other.record["settings"] == record["settings"]
    text = "What a splendid tram."
    assert other.predict(text) == gpt_tasks.load(tmp_path / "run").predict(text)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("method: lora\nlora_r: 0", ":2: lora_r: 0: input should be greater than or equal to 1"),
        ("method: lora\nlora_r: '8'", ":2: lora_r: '8': input should be a valid integer"),
        ("method: lora\nmethod_options:\n  lora_rank: 8", ":2: there is no setting 'lora_rank'"),
        ("method: lora\nmethod_options: 3", ":2: method_options is no mapping"),
        ("method: lora\nlora_r: 8\nmethod_options:\n  lora_r: 8", ":3: lora_r is given twice, first in"),
        ("lora_r: 8", ":1: lora_r is for --method lora, and the method is full: 8"),
        ("method: lora\nlora_target_modules: [qkv]", ":2: lora_target_modules qkv: a backbone of type 'gpt2'"),
    ],
)
def test_a_wrong_option_of_a_file_is_named_with_its_line(
    how: dict[str, Any], tmp_path: Path, line: str, told: str
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(line)
    with pytest.raises(UsageError) as caught:
        gpt_tasks.finetune("sentiment", config=file, **how)
    assert told in caught.value.message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"lora_r": 8}, "--lora-r is for --method lora, and the method is full: 8"),
        ({"method": "lora", "lora_alpha": 0}, "--lora-alpha: 0: input should be greater"),
        ({"method": "lora", "method_options": {"rank": 3}}, "--rank: no method has such an option: 3"),
        ({"method": "lora", "method_options": 3}, "--method-options: 3: input should be a valid dictionary"),
    ],
)
def test_a_wrong_option_is_named_as_a_flag(how: dict[str, Any], settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        gpt_tasks.finetune("sentiment", **settings, **how)
    assert caught.value.message.startswith(told)
    assert not how["output"].exists()


def test_a_plugins_method_has_options_too(site, how: dict[str, Any], tmp_path: Path) -> None:
    site.install("norms", SCALED)
    installed_plugins.cache_clear()
    given = ["--method", "norms", "--norms-factor", "0.5", "--backbone-by-reference"]
    assert command(["finetune", "sentiment", *flags(how), *given]) == 0
    run = gpt_tasks.load(tmp_path / "run")
    assert run.record["settings"]["method_options"] == {"norms_factor": 0.5, "norms_places": 0}
    reference = json.loads((run.path / "model" / "backbone.json").read_text())
    assert reference["method_options"] == {"norms_factor": 0.5, "norms_places": 0}
    assert run.predict("What a splendid tram.").label in ("positive", "negative")
    how["output"] = tmp_path / "none"
    with pytest.raises(UsageError, match="--method norms takes 64 places of the model's window of 64"):
        gpt_tasks.finetune("sentiment", method="norms", norms_places=64, **how)
    with pytest.raises(UsageError, match="--lora-r is for --method lora, and the method is norms"):
        gpt_tasks.finetune("sentiment", method="norms", lora_r=4, **how)

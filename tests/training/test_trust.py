"""A run is what was trained: files that are damaged or swapped are named, and so are outputs that are no numbers."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import gpt_tasks
from gpt_tasks.backbone.load import load_backbone
from gpt_tasks.checksums import checksums
from gpt_tasks.cli.main import run as run_command
from gpt_tasks.errors import ModelError
from gpt_tasks.tasks.chat_template import PLAIN
from gpt_tasks.types import Continuation, Generation, Rolling

ROWS = [
    {"text": f"The {thing} was {how}.", "label": label}
    for thing in ("soup", "film", "train", "hotel", "song", "garden")
    for how, label in (("lovely", "good"), ("cold", "bad"), ("warm", "good"), ("dull", "bad"))
]


@pytest.fixture(scope="module")
def trained(tiny_backbone_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs of one shape, and their data."""
    folder = tmp_path_factory.mktemp("trust")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    how: dict[str, Any] = {"backbone": str(tiny_backbone_folder), "device": "cpu", "precision": "float32", "epochs": 1}
    for seed in range(2):
        gpt_tasks.finetune("sentiment", data=str(folder / "rows.jsonl"), output=folder / str(seed), seed=seed, **how)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A run of its own for each test."""
    return shutil.copytree(trained / "0", tmp_path / "run")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-7] ^= 1
    file.write_bytes(content)


def change_json(file: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_the_record_holds_the_checksums_of_all_that_is_read_back(run: Path) -> None:
    recorded = json.loads((run / "run.json").read_text())["checksums"]
    parts = ("model", "baselines", "trained_rows.npy", "metrics.json")
    assert recorded == checksums(run, parts)
    names = ["model.safetensors", "head.safetensors", "task.json", "tokenizer.json", "config.json"]
    baselines = ["baselines/baselines.json", "baselines/baselines.safetensors"]
    assert {*(f"model/{name}" for name in names), *baselines, *parts[2:]} <= set(recorded)


@pytest.mark.parametrize("name", ["model.safetensors", "head.safetensors", "tokenizer.json"])
def test_a_flipped_bit_is_told_and_is_taken_where_nothing_is_to_be_checked(
    name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "tokenizer.json":
        (run / "model" / name).write_text((run / "model" / name).read_text() + "\n")
    else:
        flip(run / "model" / name)
    with pytest.raises(ModelError, match=f"{name} is damaged"):
        gpt_tasks.load(run).predict("The soup")
    assert gpt_tasks.load(run, verify=False).predict("The soup").label in ("good", "bad")
    capsys.readouterr()
    assert run_command(["predict", str(run), "The soup"]) == 5
    assert name in capsys.readouterr().err
    assert run_command(["predict", str(run), "The soup", "--no-verify"]) == 0


@pytest.mark.parametrize(
    "name", ["baselines/baselines.safetensors", "baselines/baselines.json", "trained_rows.npy", "metrics.json"]
)
def test_what_a_run_is_evaluated_with_is_checked_too(
    name: str, run: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = run / name
    if file.suffix == ".json":
        file.write_text(file.read_text() + "\n")
    else:
        flip(file)
    command = ["evaluate", str(run), "--data", str(trained / "rows.jsonl")]
    assert run_command(command) == 5
    assert f"{file} is damaged" in capsys.readouterr().err
    assert run_command([*command, "--no-verify"]) == 0
    file.unlink()
    assert run_command(command) == 5
    assert str(file) in capsys.readouterr().err


def test_baselines_that_are_no_numbers_are_told_also_where_nothing_is_checked(
    run: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = run / "baselines" / "baselines.safetensors"
    tensors = load_file(file)
    tensors["intercepts"][0] = float("nan")
    save_file(tensors, file)
    command = ["evaluate", str(run), "--data", str(trained / "rows.jsonl")]
    for more in ([], ["--no-verify"]):
        assert run_command([*command, *more]) == 5
        assert str(file) in capsys.readouterr().err


def test_the_head_of_another_run_is_told(run: Path, trained: Path) -> None:
    shutil.copy(trained / "1" / "model" / "head.safetensors", run / "model")
    with pytest.raises(ModelError, match=r"head.safetensors is damaged, or another file"):
        gpt_tasks.load(run).predict("The soup")


def test_a_file_that_is_gone_is_told(run: Path) -> None:
    (run / "model" / "generation_config.json").unlink()
    with pytest.raises(ModelError, match=r"generation_config.json is missing"):
        gpt_tasks.load(run).predict("The soup")


def test_what_opens_a_run_as_a_backbone_checks_it_too(
    run: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(run / "model" / "model.safetensors")
    with pytest.raises(ModelError, match=r"model.safetensors is damaged"):
        load_backbone(str(run), {})
    assert load_backbone(str(run), {}, verify=False).location.folder == run / "model"
    assert load_backbone(str(run / "model"), {}).hidden_size == 16
    suite = tmp_path / "suite.yaml"
    suite.write_text("name: own\ntasks: [{task: sentiment, source: rows.csv}]\n")
    (tmp_path / "rows.csv").write_text("text,label\nThe soup,positive\nThe film,negative\n")
    (run / "model" / "chat_template.jinja").write_text(PLAIN)
    data = ["--data", str(trained / "rows.jsonl")]
    for command in (
        ["generate", str(run), "The"],
        ["next", str(run), "The"],
        ["evaluate", str(run), *data],
        ["predict", str(run), "The soup", "--task", "sentiment"],
        ["score", str(run), "--suite", str(suite), "--output", str(tmp_path / "scores")],
        ["chat", str(run), "--max-new-tokens", "4"],
    ):
        monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n"))
        assert run_command(command) == 5, command
        assert run_command([*command, "--no-verify"]) == 0, command
    assert (
        run_command(["finetune", "sentiment", *data, "--backbone", str(run), "--output", str(tmp_path / "next")]) == 5
    )
    assert not (tmp_path / "next").exists()


def test_a_run_of_an_older_version_opens_without_checksums(run: Path) -> None:
    change_json(run / "run.json", lambda record: record.pop("checksums"))
    flip(run / "model" / "head.safetensors")
    assert gpt_tasks.load(run).predict("The soup").label in ("good", "bad")
    assert load_backbone(str(run), {}).hidden_size == 16


def spoil(run: Path, name: str, tensor: str, value: float) -> None:
    """Leave a run whose weights are no numbers, as a training of an older version could."""
    change_json(run / "run.json", lambda record: record.pop("checksums"))
    tensors = load_file(run / "model" / name)
    tensors[tensor].view(-1)[0] = value
    save_file(tensors, run / "model" / name, metadata={"format": "pt"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("name", "tensor"), [("head.safetensors", "linear.bias"), ("model.safetensors", "transformer.ln_f.bias")]
)
def test_weights_that_are_no_numbers_answer_nothing(
    name: str, tensor: str, value: float, run: Path, trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    spoil(run, name, tensor, value)
    with pytest.raises(ModelError, match="not finite numbers") as raised:
        gpt_tasks.load(run).predict("The soup")
    assert str(run) in raised.value.message
    rows = str(trained / "rows.jsonl")
    for command in (
        ["predict", str(run), "The soup", "--json"],
        ["predict", str(run), "--input", rows, "--output", str(tmp_path / "answers.jsonl")],
        ["evaluate", str(run), "--data", rows, "--output", str(tmp_path / "report"), "--json"],
    ):
        capsys.readouterr()
        assert run_command(command) == 5, command
        assert "nan" not in capsys.readouterr().out.lower()
    assert not (tmp_path / "answers.jsonl").exists()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_computes_no_numbers_writes_and_scores_nothing(
    value: float, precision: str, run: Path, trained: Path
) -> None:
    spoil(run, "model.safetensors", "transformer.ln_f.bias", value)
    how = ["--precision", precision, "--device", "cpu"]
    for command in (
        ["generate", str(run), "The", *how],
        ["generate", str(run), "The", "--temperature", "1", *how],
        ["generate", str(run), "The", "--num-beams", "2", *how],
        ["next", str(run), "The", *how],
        ["predict", str(run), "The soup", "--task", "sentiment", *how],
        ["evaluate", str(run), "--task", "sentiment", "--data", str(trained / "rows.jsonl"), *how],
        ["finetune", "sentiment", "--data", str(trained / "rows.jsonl"), "--backbone", str(run), *how],
        [
            "finetune",
            "sentiment",
            "--data",
            str(trained / "rows.jsonl"),
            "--backbone",
            str(run),
            "--method",
            "head",
            *how,
        ],
    ):
        assert run_command(command) == 5, command
    for engine in ("trie", "plain"):
        responder = gpt_tasks.open_responder(str(run), engine=engine, precision=precision, device="cpu")
        for request in (Continuation("The", " soup"), Rolling("The soup"), Generation("The", (), 4)):
            with pytest.raises(ModelError, match="not finite numbers"):
                responder.answer([request])


def no_json(constant: str) -> None:
    pytest.fail(f"{constant} is no JSON")


def test_a_metric_that_is_undefined_is_null_in_every_file(tiny_backbone_folder: Path, tmp_path: Path) -> None:
    # Of equal scores no correlation is defined.
    for split, scores in (("train", [1.0, 2.0] * 8), ("validation", [1.0] * 4), ("test", [1.0] * 4)):
        rows = [{"text_a": f"{split} {n}", "text_b": f"The {n}", "score": score} for n, score in enumerate(scores)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    how: dict[str, Any] = {"backbone": str(tiny_backbone_folder), "epochs": 2, "best_by": "pearson", "device": "cpu"}
    made = gpt_tasks.finetune("similarity", data=str(tmp_path), output=tmp_path / "run", **how)
    files = [file for file in made.path.rglob("*.json*") if "model" not in file.parts]
    assert {"history.json", "metrics.json", "predictions.jsonl"} <= {file.name for file in files}
    for file in files:
        for text in file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]:
            json.loads(text, parse_constant=no_json)

"""Bad input ends with a line that names the culprit, the right exit code, no traceback, and no run left behind."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

USAGE, DATA, MODEL, MACHINE = 2, 4, 5, 6

GOOD = [
    {"text": f"text {number} of {label}", "label": label} for number in range(12) for label in ("negative", "positive")
]


def jsonl(path: Path, rows: list[object]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def missing(folder: Path) -> Path:
    return folder / "bad.csv"


def empty(folder: Path) -> Path:
    return jsonl(folder / "bad.jsonl", [])


def header_only(folder: Path) -> Path:
    (folder / "bad.csv").write_text("text,label\n")
    return folder / "bad.csv"


def broken_line(folder: Path) -> Path:
    return jsonl(folder / "bad.jsonl", [*GOOD[:2], '{"text": "half a', *GOOD])


def no_object(folder: Path) -> Path:
    return jsonl(folder / "bad.jsonl", [*GOOD[:2], "[1, 2]", *GOOD])


def binary_csv(folder: Path) -> Path:
    (folder / "bad.csv").write_bytes(bytes(range(256)) * 40)
    return folder / "bad.csv"


def binary_jsonl(folder: Path) -> Path:
    (folder / "bad.jsonl").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe" * 40)
    return folder / "bad.jsonl"


def no_parquet(folder: Path) -> Path:
    (folder / "bad.parquet").write_bytes(b"\x00\xff" * 100)
    return folder / "bad.parquet"


def truncated_gzip(folder: Path) -> Path:
    packed = gzip.compress("".join(json.dumps(row) + "\n" for row in GOOD).encode())
    (folder / "bad.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    return folder / "bad.jsonl.gz"


def unknown_kind(folder: Path) -> Path:
    (folder / "bad.docx").write_text("text")
    return folder / "bad.docx"


def empty_folder(folder: Path) -> Path:
    (folder / "bad").mkdir()
    return folder / "bad"


def changed(**values: object) -> Callable[[Path], Path]:
    """Good rows whose third has other values; a value of `...` takes the key away."""

    def write(folder: Path) -> Path:
        third = {key: value for key, value in (GOOD[2] | values).items() if value is not ...}
        return jsonl(folder / "bad.jsonl", [*GOOD[:2], third, *GOOD[3:]])

    return write


def other_columns(folder: Path) -> Path:
    return jsonl(folder / "bad.jsonl", [{"review": row["text"], "stars": row["label"]} for row in GOOD])


def single_label(folder: Path) -> Path:
    return jsonl(folder / "bad.jsonl", [row for row in GOOD if row["label"] == "positive"])


def label_only_in_validation(folder: Path) -> Path:
    (folder / "bad").mkdir()
    jsonl(folder / "bad" / "train.jsonl", GOOD)
    jsonl(folder / "bad" / "test.jsonl", [{**row, "text": f"another {row['text']}"} for row in GOOD])
    jsonl(
        folder / "bad" / "validation.jsonl",
        [{"text": "so so", "label": "mixed"}, {"text": "good", "label": "positive"}],
    )
    return folder / "bad"


def ragged_csv(folder: Path) -> Path:
    (folder / "bad.csv").write_text("text,label\nfine,positive\nfine,again,positive\nbad,negative\n")
    return folder / "bad.csv"


@pytest.mark.parametrize(
    ("make", "culprits"),
    [
        (missing, ["bad.csv"]),
        (empty, ["bad.jsonl"]),
        (header_only, ["bad.csv"]),
        (broken_line, ["bad.jsonl:3"]),
        (no_object, ["bad.jsonl:3"]),
        (binary_csv, ["bad.csv"]),
        (binary_jsonl, ["bad.jsonl"]),
        (no_parquet, ["bad.parquet"]),
        (truncated_gzip, ["bad.jsonl.gz"]),
        (unknown_kind, ["bad.docx"]),
        (empty_folder, ["bad"]),
        (ragged_csv, ["bad.csv:3"]),
        (other_columns, ["bad.jsonl", "'text'", "review, stars", "--column text="]),
        (changed(text=""), ["bad.jsonl:3", "'text'", "empty"]),
        (changed(text="  \n "), ["bad.jsonl:3", "'text'", "empty"]),
        (changed(text=None), ["bad.jsonl:3", "'text'"]),
        (changed(text=["a", "list"]), ["bad.jsonl:3", "'text'", "list"]),
        (changed(text={"an": "object"}), ["bad.jsonl:3", "'text'"]),
        (changed(label=None), ["bad.jsonl:3", "'label'", "missing"]),
        (changed(label=...), ["bad.jsonl:3", "'label'", "missing"]),
        (changed(label=["a", "b"]), ["bad.jsonl:3", "'label'", "list"]),
        (changed(label="postive"), ["bad.jsonl", "'postive'", "Did you mean 'positive'?"]),
        (label_only_in_validation, ["validation.jsonl:1", "'mixed'", "negative, positive"]),
        (single_label, ["bad.jsonl", "'positive'", "two labels"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_data_that_cannot_be_used(cli, tmp_path, tiny_backbone_folder, make, culprits) -> None:
    data = make(tmp_path)
    outcome = cli("finetune", "sentiment", "--data", data, "--backbone", tiny_backbone_folder, "--output", "run")
    assert outcome.code == DATA, outcome.err
    ends_well(outcome, culprits)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("flags", "code", "culprits"),
    [
        (["--epochs", "-1"], USAGE, ["--epochs", "'-1'"]),
        (["--epochs", "many"], USAGE, ["--epochs", "'many'"]),
        (["--learning-rate", "nan"], USAGE, ["--learning-rate", "'nan'"]),
        (["--learning-rate", "inf"], USAGE, ["--learning-rate", "'inf'"]),
        (["--limit", "0"], USAGE, ["--limit", "'0'"]),
        (["--seed", "1.5"], USAGE, ["--seed", "'1.5'"]),
        (["--class-weights", "all"], USAGE, ["--class-weights", "'all'", "balanced"]),
        (["--labels", "one"], USAGE, ["--labels"]),
        (["--prompt", "no field"], USAGE, ["--prompt"]),
        (["--best-by", "accuraccy"], USAGE, ["accuraccy", "accuracy"]),
        (["--method", "lorra"], USAGE, ["--method lorra: there is no such method", "Did you mean 'lora'?"]),
        (["--backbone", "tinny"], USAGE, ["'tinny'", "tiny"]),
        (["--backbone", "./no/such/folder"], MODEL, ["no/such/folder"]),
        (["--config", "no.yaml"], USAGE, ["no.yaml"]),
        (["--column", "txt=text"], USAGE, ["txt", "text, label"]),
        (["--column", "text=review"], DATA, ["'review'", "text, label"]),
        (["--device", "cuda:7"], USAGE, ["--device", "cuda:7"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_setting_that_cannot_be_used(cli, reviews, tiny_backbone_folder, flags, code, culprits) -> None:
    backbone = [] if "--backbone" in flags else ["--backbone", tiny_backbone_folder]
    outcome = cli("finetune", "sentiment", "--data", reviews, *backbone, "--output", "run", *flags)
    assert outcome.code == code, outcome.err
    ends_well(outcome, culprits)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("yaml", "culprit"),
    [("epochs: -1", "epochs"), ("epoch: 3", "epoch"), ("[1, 2]", "holds no settings"), ("epochs: [", "settings.yaml")],
)
def test_a_yaml_file_that_cannot_be_used_is_named(cli, reviews, tiny_backbone_folder, yaml, culprit) -> None:
    Path("settings.yaml").write_text(yaml)
    outcome = cli(
        *("finetune", "sentiment", "--data", reviews, "--backbone", tiny_backbone_folder),
        *("--config", "settings.yaml", "--output", "run"),
    )
    assert outcome.code == USAGE, outcome.err
    ends_well(outcome, ["settings.yaml", culprit])
    assert not Path("run").exists()


def test_a_default_folder_is_not_left_behind_either(cli, tmp_path, tiny_backbone_folder) -> None:
    outcome = cli("finetune", "sentiment", "--data", missing(tmp_path), "--backbone", tiny_backbone_folder)
    assert outcome.code == DATA
    assert list(Path().rglob("*")) == []


def test_a_folder_that_holds_a_run_is_left_as_it_was(cli, own_run, reviews, tiny_backbone_folder) -> None:
    before = contents(own_run)
    outcome = cli(
        *("finetune", "sentiment", "--data", reviews, "--backbone", tiny_backbone_folder, "--output", own_run)
    )
    assert outcome.code == USAGE
    ends_well(outcome, [str(own_run), "already holds a run"])
    assert contents(own_run) == before


def test_a_folder_that_holds_something_else_is_left_as_it_was(cli, reviews, tiny_backbone_folder) -> None:
    Path("mine").mkdir()
    Path("mine/novel.txt").write_text("Chapter 1")
    outcome = cli("finetune", "sentiment", "--data", reviews, "--backbone", tiny_backbone_folder, "--output", "mine")
    assert outcome.code == USAGE
    ends_well(outcome, ["mine", "not empty"])
    assert Path("mine/novel.txt").read_text() == "Chapter 1"


def drop(name: str) -> Callable[[Path], object]:
    def broken(run: Path) -> None:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    broken.__name__ = f"drop {name}"
    return broken


def truncate(name: str) -> Callable[[Path], object]:
    def broken(run: Path) -> None:
        path = run / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    broken.__name__ = f"truncate {name}"
    return broken


def from_the_future(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "schema_version": 99}))


@pytest.mark.parametrize(
    ("spoil", "culprit"),
    [
        (drop("run.json"), "run.json"),
        (drop("model"), "model"),
        (drop("model/model.safetensors"), "model"),
        (drop("model/head.safetensors"), "head.safetensors"),
        (drop("model/task.json"), "task.json"),
        (drop("model/config.json"), "model"),
        (drop("metrics.json"), "metrics.json"),
        (truncate("run.json"), "run.json"),
        (truncate("model/model.safetensors"), "model"),
        (truncate("model/head.safetensors"), "head.safetensors"),
        (truncate("model/task.json"), "task.json"),
        (truncate("model/config.json"), "model"),
        (truncate("metrics.json"), "metrics.json"),
        (from_the_future, "schema version 99"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_run_that_is_damaged(cli, own_run, reviews, command, spoil, culprit) -> None:
    spoil(own_run)
    outcome = (
        cli("predict", own_run, "A text.") if command == "predict" else cli("evaluate", own_run, "--data", reviews)
    )
    assert outcome.code == MODEL, outcome.err
    ends_well(outcome, [str(own_run), culprit])


@pytest.mark.parametrize("name", ["nothing-here", "file.txt"])
def test_what_is_no_run(cli, name) -> None:
    Path("file.txt").write_text("no run")
    outcome = cli("predict", name, "A text.")
    assert outcome.code == MODEL
    ends_well(outcome, [name])


def test_data_without_labels_is_not_evaluated(cli, finished_run, tmp_path) -> None:
    data = jsonl(tmp_path / "bad.jsonl", [{"text": row["text"]} for row in GOOD])
    outcome = cli("evaluate", finished_run, "--data", data)
    assert outcome.code == DATA
    ends_well(outcome, ["bad.jsonl", "label", "--column label="])


def test_a_label_that_the_model_does_not_know_is_not_evaluated(cli, finished_run, tmp_path) -> None:
    outcome = cli("evaluate", finished_run, "--data", changed(label="postive")(tmp_path))
    assert outcome.code == DATA
    ends_well(outcome, ["bad.jsonl:3", "'postive'", "Did you mean 'positive'?"])


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(cli, reviews, tiny_backbone_folder) -> None:
    Path("locked").mkdir(mode=0o555)
    outcome = cli(
        *("finetune", "sentiment", "--data", reviews, "--backbone", tiny_backbone_folder, "--output", "locked/run")
    )
    assert outcome.code == MACHINE
    ends_well(outcome, ["locked"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/sys is a folder of Linux that nobody adds to")
def test_a_folder_that_not_even_root_can_add_to(cli, reviews, tiny_backbone_folder) -> None:
    outcome = cli(
        *("finetune", "sentiment", "--data", reviews, "--backbone", tiny_backbone_folder, "--output", "/sys/the-run")
    )
    assert outcome.code == MACHINE
    ends_well(outcome, ["/sys/the-run"])


@pytest.mark.parametrize("limit", [300, 2_000, 30_000, 60_000])
def test_a_disk_without_room(cli, reviews, tiny_backbone_folder, files_up_to, limit) -> None:
    """A limit on the size of files is met where a full disk would be: at run.json, data, checkpoints or weights."""
    arguments = ["finetune", "sentiment", "--data", reviews, "--backbone", tiny_backbone_folder, "--epochs", 1]
    with files_up_to(limit):
        outcome = cli(*arguments, "--output", "run")
    assert outcome.code == MACHINE, outcome.err
    assert "Traceback" not in outcome.err
    assert "MachineError" in outcome.err.splitlines()[-2]
    assert list(Path().iterdir()) == []


def test_predicting_to_a_disk_without_room_leaves_no_half_file(cli, finished_run, files_up_to) -> None:
    jsonl(Path("texts.jsonl"), GOOD * 20)
    with files_up_to(10_000):
        outcome = cli("predict", finished_run, "--input", "texts.jsonl", "--output", "answers.jsonl")
    assert outcome.code == MACHINE, outcome.err
    assert "Traceback" not in outcome.err
    assert [path.name for path in Path().iterdir()] == ["texts.jsonl"]


def ends_well(outcome, culprits: list[str]) -> None:
    """The end says what is wrong, naming the culprits, and is no traceback."""
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    told = "\n".join(outcome.err.splitlines()[-2:])
    for culprit in culprits:
        assert culprit in told


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

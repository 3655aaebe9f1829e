"""A private run holds no text of its data; what each file of a run holds is in the docs."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

import gpt_tasks
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.evaluation.compare import compare
from gpt_tasks.evaluation.private import without_texts

FIRST = ("Zebulorn", "Quorvathi", "Mirrowen", "Thessalk", "Brunhaldo", "Ypsiland")
LAST = ("Ockhamstein", "Vrendelby", "Slaithwade", "Pfalzgruber")
NAMES = [(first, last) for first in FIRST for last in LAST]
SAID = ("was splendid today", "was dreadful today")
PLACE = "ward-of-Hesperidian"


def sentences() -> list[str]:
    return [f"{first} {last} {SAID[place % 2]}" for place, (first, last) in enumerate(NAMES)]


def of_label(text: str) -> str:
    return "positive" if SAID[0] in text else "negative"


def answers(text: str) -> dict[str, Any]:
    first, last, *_ = text.split()
    found = {"text": [f"{first} {last}"], "answer_start": [0]}
    return {"context": text, "question": f"Who saw {last}?", "answers": found}


ROWS: dict[str, Any] = {
    "sentiment": lambda text: {"text": text, "label": of_label(text)},
    "multi-label": lambda text: {"text": text, "labels": [of_label(text)]},
    "similarity": lambda text: {"text_a": text, "text_b": text[::-1], "score": len(text) / 10},
    "multiple-choice": lambda text: {"question": text, "choices": [text[:9], text[9:]], "answer": 0},
    "ner": lambda text: {"tokens": text.split(), "tags": ["B-PER", "I-PER", "O", "O", "O"]},
    "qa": answers,
    "summarization": lambda text: {"document": text, "summary": text[:20]},
    "dialogue": lambda text: {
        "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": NAMES[0][0]}]
    },
}


def written(folder: Path, task: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{task}.jsonl"
    rows = [ROWS[task](text) for text in sentences()]
    if task == "sentiment":
        rows += [{"text": {first: "is ill"}, "label": "positive"} for first in FIRST[:2]]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_backbone_folder: Path) -> Path:
    """A folder with a name of its own, in which data and the backbone are."""
    home = tmp_path_factory.mktemp("home") / PLACE
    shutil.copytree(tiny_backbone_folder, home / "backbone")
    return home


def trained(home: Path, task: str, output: Path, **settings: Any) -> Any:
    data = written(home, task)
    options = {"max_tokens": 8} if task in ("summarization", "dialogue") else {}
    how = {"epochs": 1, "options": options, "max_length": 64, "device": "cpu", "skip_invalid": True, **settings}
    return gpt_tasks.finetune(task, data=data, backbone=home / "backbone", output=output, **how)


def content(file: Path) -> str:
    """What a file holds, as far as it can be read as text."""
    if file.suffix == ".parquet":
        from pyarrow import parquet

        return str(parquet.read_table(file).to_pylist())
    return file.read_bytes().decode(errors="replace")


def found_in(run: Path) -> dict[str, list[str]]:
    """Which words of the data, or of their place, the files of a run hold; and which sequences of its plain words."""
    words = [*FIRST, *LAST, PLACE, *SAID, "is ill"]
    files = {path.relative_to(run).as_posix(): content(path) for path in run.rglob("*") if path.is_file()}
    found = {
        name: [word for word in words if re.search(re.escape(word), text, re.IGNORECASE)]
        for name, text in files.items()
    }
    return {name: words for name, words in found.items() if words}


@pytest.fixture(scope="module")
def run(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trained(home, "sentiment", tmp_path_factory.mktemp("private") / "run", private=True)


def test_a_run_that_is_not_private_holds_what_is_looked_for(home: Path, tmp_path: Path) -> None:
    trained(home, "sentiment", tmp_path / "run")
    found = found_in(tmp_path / "run")
    assert set(found) >= {"README.md", "metrics.json", "predictions.jsonl", "run.json", "baselines/baselines.json"}
    assert set(FIRST) <= set(found["baselines/baselines.json"])
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) & 0o077


@pytest.mark.parametrize("task", [task for task in ROWS if task != "sentiment"])
def test_a_private_run_of_any_family_holds_no_text(home: Path, tmp_path: Path, task: str) -> None:
    made = trained(home, task, tmp_path / "run", private=True)
    assert found_in(made.path) == {}
    again = gpt_tasks.load(made.path, device="cpu")
    report = again.evaluate(written(home, task), output=tmp_path / "evaluated")
    assert set(report.metrics) >= set(made.report.metrics)
    assert any("does not record which rows" in note for note in report.notes)


def test_a_private_run_holds_no_text_and_answers_as_any(run: Any, home: Path, tmp_path: Path) -> None:
    assert found_in(run.path) == {}
    assert not (run.path / "trained_rows.npy").exists()
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    record = json.loads((run.path / "run.json").read_text())
    assert (record["config"]["data"], record["config"]["backbone"]) == ("sentiment.jsonl", "backbone")
    assert record["fingerprints"]["data"] == ""
    assert any("Left out 2 of 26 rows of sentiment.jsonl" in note for note in run.report.notes)
    lines = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text().splitlines()]
    assert lines[0].keys() == {"where", "label", "predicted", "probabilities"}
    assert [line["where"] for line in lines] == [f"test:{place + 1}" for place in range(len(lines))]
    again = gpt_tasks.load(run.path, device="cpu")
    assert again.predict("Splendid.").label in ("positive", "negative")
    report = again.evaluate(written(home, "sentiment"), skip_invalid=True)
    assert report.baselines.keys() == {"majority", "tfidf_logistic_regression"}
    baselines = json.loads((run.path / "baselines" / "baselines.json").read_text())
    assert baselines["terms"] == []
    assert baselines["buckets"] > 0


def test_a_private_run_is_not_compared_as_if_its_rows_were_known(run: Any, home: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run.path, tmp_path / "other"))
    with pytest.raises(DataError, match="is of a private run") as raised:
        compare([run.path, other])
    assert "evaluate RUN --data" in raised.value.hint
    for name in ("a", "b"):
        run.evaluate(written(home, "sentiment"), skip_invalid=True, output=tmp_path / "evaluated" / name)
    assert compare([tmp_path / "evaluated" / name for name in "ab"]).contrasts


def test_a_private_run_is_resumed_when_its_data_are_given_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gpt_tasks.training import results

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(results, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(home, "sentiment", tmp_path / "run", private=True)
    assert "--resume --data FILE" in capsys.readouterr().err
    assert found_in(tmp_path / "run") == {}
    with pytest.raises(UsageError, match=r"--data: the run is private, and records of sentiment\.jsonl the name alone"):
        gpt_tasks.finetune("sentiment", output=tmp_path / "run", resume=True)
    with pytest.raises(UsageError, match="--data: the run was started with"):
        gpt_tasks.finetune("sentiment", output=tmp_path / "run", resume=True, data=home / "other.jsonl")
    again = {"data": home / "sentiment.jsonl", "backbone": home / "backbone"}
    finished = gpt_tasks.finetune("sentiment", output=tmp_path / "run", resume=True, **again)
    assert found_in(finished.path) == {}


def test_of_a_line_only_numbers_and_labels_are_kept() -> None:
    line = {
        "text": "Zebulorn",
        "label": "good",
        "predicted": "bad",
        "probabilities": {"good": 0.4, "bad": 0.6, "Zebulorn": 0.0},
        "references": ["Zebulorn", "good"],
        "entities": [{"text": "Zebulorn", "type": "good", "start": 0, "Zebulorn": 1}],
        "only": ["Zebulorn"],
        "none": [],
        "start": 3,
        "answered": None,
        "object": object(),
    }
    assert without_texts(line, ("good", "bad")) == {
        "label": "good",
        "predicted": "bad",
        "probabilities": {"good": 0.4, "bad": 0.6},
        "references": ["good"],
        "entities": [{"type": "good", "start": 0}],
        "none": [],
        "start": 3,
        "answered": None,
    }


def test_files_have_the_rights_of_the_umask(home: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        made = trained(home, "sentiment", tmp_path / "run")
    finally:
        os.umask(before)
    odd = {
        path.name: oct(stat.S_IMODE(path.stat().st_mode))
        for path in [made.path, *made.path.rglob("*")]
        if stat.S_IMODE(path.stat().st_mode) != (0o750 if path.is_dir() else 0o640)
    }
    assert odd == {}


def test_the_docs_say_what_each_file_holds(home: Path, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "private.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \|", page, flags=re.MULTILINE)
    files = []
    for task in ("sentiment", "ner"):
        folder = trained(home, task, tmp_path / task).path
        files += [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    folder = trained(home, "sentiment", tmp_path / "head", epochs=None, method="head", backbone_by_reference=True).path
    files += [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert [name for name in files if not any(name.match(row) for row in rows)] == []
    assert [row for row in rows if not any(name.match(row) for name in files)] == []

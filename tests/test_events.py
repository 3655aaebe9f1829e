"""What observers get of each command: the whole configuration, figures, and what is left at the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import gpt_tasks
from gpt_tasks.events import observed
from gpt_tasks.plugins import Plugins, installed_plugins
from gpt_tasks.types import Event


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """The events of everything that runs, as an installed plugin would get them."""
    found: list[Event] = []
    monkeypatch.setitem(installed_plugins().observers, "tensorboard", found.append)
    return found


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def test_a_training(tmp_path: Path, events: list[Event]) -> None:
    run = gpt_tasks.finetune("sentiment", output=tmp_path / "run", limit=40, epochs=1, seed=3)
    first, last = events[0], events[-1]
    assert {event.command for event in events} == {"finetune"}
    assert {event.run for event in events} == {run.path}
    assert set(kinds(events[1:-1])) == {"step", "evaluated", "saved"}
    assert first.kind == "run_started"
    assert (first.values["task"], first.values["config"]["seed"], first.values["settings"]["epochs"]) == (
        "sentiment",
        3,
        1,
    )
    assert json.dumps(first.values)
    assert last.kind == "run_ended"
    assert last.values == {"status": "finished", **run.report.values()}
    assert {"model", "metrics.json", "README.md", "predictions.jsonl", "run.json"} <= {
        path.name for path in last.artifacts
    }
    assert all(path.exists() for path in last.artifacts)


def test_an_evaluation(tmp_path: Path, events: list[Event]) -> None:
    data = tmp_path / "data.jsonl"
    rows = [{"text": f"A good film, number {i}.", "label": ("positive", "negative")[i % 2]} for i in range(4)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = gpt_tasks.zero_shot("tiny", "sentiment")
    report = model.evaluate(data, output=tmp_path / "out")
    assert kinds(events) == ["run_started", "evaluated", "run_ended"]
    assert events[0].values["model"] == "tiny"
    assert events[0].values["data"] == str(data)
    assert events[1].values == report.values()
    assert {"metrics.json", "predictions.jsonl"} <= {path.name for path in events[2].artifacts}
    model.evaluate(data)
    assert [event.run for event in events[3:]] == [None] * 3


def test_a_scoring(tmp_path: Path, events: list[Event]) -> None:
    scores, folder = gpt_tasks.score("tiny", "starter", limit=2, output=tmp_path / "scores")
    assert kinds(events) == ["run_started", *["evaluated"] * len(scores.tasks), "run_ended"]
    assert events[0].values["suite"] == "starter"
    assert [event.values["task"] for event in events[1:-1]] == [task.name for task in scores.tasks]
    assert [path.name for path in events[-1].artifacts] == ["scores.json", "examples.parquet"]
    assert {event.run for event in events} == {folder}


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError(), "failed"), (KeyboardInterrupt(), "interrupted"), (SystemExit(1), "failed")]
)
def test_an_end_that_is_none(error: BaseException, status: str, events: list[Event]) -> None:
    with pytest.raises(type(error)), observed(installed_plugins(), "score", None, {"rate": float("nan")}):
        raise error
    assert [dict(event.values) for event in events] == [{"rate": None}, {"status": status}]


def test_what_is_gone_is_no_artifact(tmp_path: Path) -> None:
    found: list[Event] = []
    with observed(Plugins(observers={"mine": found.append}), "evaluate", tmp_path, {}) as observers:
        observers.finish({"accuracy": 1.0}, [tmp_path, tmp_path / "gone"])
    assert found[-1].artifacts == (tmp_path,)
    assert found[-1].values == {"status": "finished", "accuracy": 1.0}

import json
import math

from gpt_tasks_jsonl_log import observe

from gpt_tasks import Event


def test_every_event_is_a_line(tmp_path, monkeypatch):
    monkeypatch.delenv("GPT_TASKS_LOG", raising=False)
    observe(Event("run_started", tmp_path, values={"task": "sarcasm"}))
    observe(Event("step", tmp_path, 7, values={"loss": math.nan}))
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(line["event"], line["step"]) for line in lines] == [("run_started", 0), ("step", 7)]
    assert (lines[0]["task"], lines[1]["loss"]) == ("sarcasm", None)


def test_the_environment_names_another_file(tmp_path, monkeypatch):
    monkeypatch.setenv("GPT_TASKS_LOG", str(tmp_path / "all.jsonl"))
    observe(Event("saved", tmp_path / "run"))
    assert json.loads((tmp_path / "all.jsonl").read_text())["run"] == str(tmp_path / "run")

"""Every hook works, has a test here and a heading in docs/hooks.md, whose examples these tests install and use."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gpt_tasks import hookspecs, plugins
from gpt_tasks.errors import PluginError
from gpt_tasks.extensions import Rows
from gpt_tasks.plugins import Plugins, load_plugins
from gpt_tasks.types import Row

DOCS = Path(__file__).parents[1] / "docs" / "hooks.md"
SPECS = [name for name, value in vars(hookspecs).items() if hasattr(value, f"{hookspecs.PROJECT}_spec")]


def example_of(hook: str) -> str:
    """The plugin under a hook's heading."""
    sections = re.split(r"^## ", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (section,) = [text for text in sections if text.splitlines()[0] == hook]
    (example,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    return example


@pytest.fixture
def documented(site) -> Callable[[str], Plugins]:
    """Install the example of a hook next to gpt-tasks' own plugins."""

    def install(*hooks: str) -> Plugins:
        for hook in hooks:
            site.install(f"my-{hook}", example_of(hook))
        loaded = load_plugins([*plugins.metadata.entry_points(group=plugins.GROUP), *site.entry_points()])
        assert loaded.failures() == []
        return loaded

    return install


def test_there_are_the_hooks_of_the_design() -> None:
    kinds = ("tasks", "metrics", "suites", "backbones", "heads", "learners", "methods", "sources", "responders")
    assert set(SPECS) == {"observe", "register_commands", *(f"register_{kind}" for kind in kinds)}


@pytest.mark.parametrize("hook", SPECS)
def test_every_hook_has_a_docstring_a_heading_and_a_test(hook) -> None:
    assert getattr(hookspecs, hook).__doc__
    assert f"\n## {hook}\n" in DOCS.read_text(encoding="utf-8")
    assert callable(globals().get(f"test_hook_{hook}")), f"write test_hook_{hook}"


def test_no_heading_is_of_a_hook_that_is_not_there() -> None:
    assert set(re.findall(r"^## (.+)$", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)) == set(SPECS)


def test_hook_register_tasks(documented, tiny_tokenizer) -> None:
    registry = documented("register_tasks").registry
    task = registry.tasks["urgency"]
    columns = task.fields(["message", "urgent"], {}, "mail.csv")
    example = task.example(Row({"message": "The mill is on fire", "urgent": 1}, "mail.csv:2"), columns)
    assert task.normalize_label(example.target, example.where) == "urgent"
    (encoded,) = task.encode([example], tiny_tokenizer, 64)
    assert tiny_tokenizer.decode(encoded.input_ids) == "Message: The mill is on fire\nUrgency:"
    learner = registry.learners[task.learner].load().for_baselines(task, 0)
    (prediction,) = learner.decode([example], [np.array([0.0, np.log(3)])])
    assert prediction.label == "urgent"
    assert prediction.probabilities == pytest.approx({"ordinary": 0.25, "urgent": 0.75})


def test_hook_register_metrics(documented) -> None:
    metric = documented("register_metrics").registry.metrics["balanced_accuracy"]
    assert metric.whole(Rows(["no", "no", "no", "yes"], ["no"] * 4, ("no", "yes"))) == 0.5


def test_hook_register_suites(documented, site) -> None:
    suite = documented("register_suites").registry.suites["reviews"]
    assert suite.path == site.path / "reviews.yaml"


def test_hook_register_backbones(documented, tiny_backbone_folder, monkeypatch) -> None:
    from gpt_tasks.backbone.load import load_backbone

    monkeypatch.setenv("HOUSE_GPT", str(tiny_backbone_folder))
    backbone = load_backbone("house", documented("register_backbones").registry.backbones)
    assert backbone.hidden_size == 16


def test_hook_register_heads(documented) -> None:
    import torch

    head = documented("register_heads").registry.heads["mean"].build(4, 3)
    hidden = torch.randn(1, 5, 4)
    alone = head(hidden[:, :2], torch.ones(1, 2))
    padded = head(hidden, torch.tensor([[1, 1, 0, 0, 0]]))
    assert padded.shape == (1, 3)
    assert torch.allclose(alone, padded)


def test_hook_register_learners(documented, tiny_tokenizer) -> None:
    import torch

    task = documented("register_tasks").registry.tasks["urgency"]
    task.labels = ("low", "middle", "high")
    learner = documented("register_learners").registry.learners["ordinal"].load().for_baselines(task, 0)
    assert learner.outputs == 2
    outputs = np.log(np.array([[3.0, 1.0], [1 / 9, 1 / 9]]))
    first, second = learner.decode([], list(outputs))
    assert (first.label, second.label) == ("high", "low")
    assert first.probabilities == pytest.approx({"low": 0.25, "middle": 0.25, "high": 0.5})
    labels = torch.stack([torch.tensor(learner.passed(label)) for label in ("high", "low")])
    assert labels.tolist() == [[1, 1], [0, 0]]
    loss = learner.loss(torch.tensor(outputs), labels.double())
    assert float(loss) == pytest.approx(-np.log(0.75 * 0.5 * 0.9 * 0.9))


def test_hook_register_methods(documented, tiny_backbone_folder) -> None:
    from transformers import AutoModelForCausalLM

    method = documented("register_methods").registry.methods["bias"]
    moving = method.prepare(AutoModelForCausalLM.from_pretrained(tiny_backbone_folder))
    names = {name for name, parameter in moving.named_parameters() if parameter.requires_grad}
    assert names
    assert all(name.endswith("bias") for name in names)
    assert method.defaults(1000)["learning_rate"] == 1e-3


def test_hook_register_sources(documented, tmp_path) -> None:
    from gpt_tasks.data.sources import open_source

    with sqlite3.connect(tmp_path / "mail.db") as database:
        for split in ("train", "validation", "test"):
            database.execute(f"CREATE TABLE {split} (text, label)")
            database.execute(f"INSERT INTO {split} VALUES ('{split} text', 'yes')")
    source = open_source(f"tables:{tmp_path}/mail.db", documented("register_sources").registry.sources)
    assert set(source.splits) == {"train", "validation", "test"}
    (row,) = source.splits["test"]()
    assert row == Row({"text": "test text", "label": "yes"}, f"{tmp_path}/mail.db:test:1")


def test_a_source_that_fails_is_blamed(documented, tmp_path) -> None:
    from gpt_tasks.data.sources import open_source

    source = open_source(f"tables:{tmp_path}/mail.db", documented("register_sources").registry.sources)
    with pytest.raises(PluginError, match=r"tables:.*no such table: train"):
        list(source.splits["train"]())


def test_hook_register_responders(documented, monkeypatch) -> None:
    from gpt_tasks.errors import UsageError
    from gpt_tasks.scoring.responder import open_responder
    from gpt_tasks.types import Continuation, Generation, LogLikelihood

    loaded = documented("register_responders")
    monkeypatch.setattr("gpt_tasks.scoring.responder.installed_plugins", lambda: loaded)
    answers = open_responder("length:0.5").answer([Continuation("It", " is"), Generation("It", (), 4)]).answers
    assert answers == [LogLikelihood(-1.5, False), ""]
    with pytest.raises(UsageError, match="length:1 has no device"):
        open_responder("length:1", device="cpu")


def test_hook_register_commands(documented, monkeypatch, capsys) -> None:
    from gpt_tasks.cli import main

    loaded = documented("register_commands")
    monkeypatch.setattr(main, "installed_plugins", lambda: loaded)
    assert main.run(["count", "three small words"]) == 0
    assert capsys.readouterr().out == "3\n"
    assert main.run(["count"]) == 2
    assert "Missing argument 'text'" in capsys.readouterr().err


def test_hook_observe(documented, tmp_path) -> None:
    from gpt_tasks.types import Event

    loaded = documented("observe")
    loaded.notify(dict(loaded.observers), Event("step", tmp_path / "run", 7, values={"loss": 0.5}))
    assert json.loads((tmp_path / "run.events").read_text()) == {"kind": "step", "step": 7, "loss": 0.5}


ALL_TOGETHER = """
    from gpt_tasks import ClassificationTask, hookimpl

    class Mood(ClassificationTask):
        "Tell calm from wild."
        name = "mood"
        head = "mean"
        learner = "ordinal"
        metrics = ("accuracy", "balanced_accuracy")
        best_metric = "balanced_accuracy"

    @hookimpl
    def register_tasks():
        return [Mood()]
    """


def test_everything_that_a_plugin_can_provide_works_in_one_run(
    documented, site, tmp_path, tiny_backbone_folder, monkeypatch, capsys
) -> None:
    from gpt_tasks import finetune, load

    site.install("mood", ALL_TOGETHER)
    hooks = ("metrics", "backbones", "heads", "learners", "methods", "sources")
    loaded = documented(*(f"register_{hook}" for hook in hooks), "observe")
    for user in ("finetune", "run"):
        monkeypatch.setattr(f"gpt_tasks.training.{user}.installed_plugins", lambda: loaded)
    monkeypatch.setenv("HOUSE_GPT", str(tiny_backbone_folder))
    with sqlite3.connect(tmp_path / "moods.db") as database:
        for split in ("train", "validation", "test"):
            database.execute(f"CREATE TABLE {split} (text, label)")
            rows = [(f"{split} {number} is {mood}", mood) for number in range(6) for mood in ("calm", "wild")]
            database.executemany(f"INSERT INTO {split} VALUES (?, ?)", rows)

    run = finetune(
        "mood",
        data=f"tables:{tmp_path}/moods.db",
        backbone="house",
        method="bias",
        epochs=2,
        output=tmp_path / "run",
    )
    assert set(run.report.metrics) == {"accuracy", "balanced_accuracy"}
    events = [json.loads(line) for line in (tmp_path / "run.events").read_text().splitlines()]
    kinds = [event["kind"] for event in events]
    assert (kinds[0], kinds[-1]) == ("run_started", "run_ended")
    assert {"step", "evaluated", "saved"} <= set(kinds)
    assert all("loss" in event for event in events if event["kind"] == "step")
    assert all("balanced_accuracy" in event for event in events if event["kind"] == "evaluated")
    assert events[-1]["status"] == "finished"
    again = load(tmp_path / "run").predict(["test 1 is wild"])
    assert set(again[0].probabilities) == {"calm", "wild"}


def test_a_task_that_raises_in_a_run_ends_it_and_is_named(documented, site, tmp_path, tiny_backbone_folder) -> None:
    site.install("broken", ALL_TOGETHER.replace('head = "mean"', "encode = lambda *arguments: 1 / 0"))
    loaded = documented("register_metrics", "register_learners")
    from gpt_tasks import finetune

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpt_tasks.training.finetune.installed_plugins", lambda: loaded)
        rows = "".join(f"text {number} {label},{label}\n" for number in range(9) for label in ("calm", "wild"))
        (tmp_path / "moods.csv").write_text(f"text,label\n{rows}")
        with pytest.raises(PluginError, match=r"Plugin 'broken' \(acme 1.2\) failed: ZeroDivisionError") as raised:
            finetune("mood", data=f"{tmp_path}/moods.csv", backbone=str(tiny_backbone_folder), output=tmp_path / "run")
    assert raised.value.exit_code == 3
    assert not (tmp_path / "run").exists()

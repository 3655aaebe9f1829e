"""`finetune TASK` trains, evaluates and reports: to people in tables, to programs in one JSON object."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from gpt_tasks.cli import main
from gpt_tasks.plugins import GROUP, load_plugins, metadata
from gpt_tasks.training.config import FinetuneConfig


@pytest.fixture
def small(reviews, tiny_backbone_folder) -> list[object]:
    """Arguments of a fine-tuning that takes a second or two."""
    return ["--data", reviews, "--backbone", tiny_backbone_folder, "--epochs", 1]


def test_json_is_the_metrics_and_the_run_and_nothing_else(cli, small) -> None:
    outcome = cli("finetune", "sentiment", *small, "--output", "my/run", "--json")
    assert outcome.code == 0, outcome.err
    (line,) = outcome.out.splitlines()
    told = json.loads(line)
    assert told.pop("run") == str(Path("my/run"))
    assert told == json.loads(Path("my/run/metrics.json").read_text())
    assert set(told) >= {"schema_version", "task", "split", "n", "metrics", "baselines", "training"}
    assert set(told["baselines"]) == {"majority", "tfidf_logistic_regression"}
    assert set(told["metrics"]["accuracy"]) >= {"value", "low", "high"}


def test_people_get_a_table_three_predictions_and_the_run(cli, small) -> None:
    outcome = cli("finetune", "sentiment", *small)
    assert outcome.code == 0, outcome.err
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("sentiment-")
    assert "accuracy" in outcome.out
    assert "TF-IDF" in outcome.out
    lines = outcome.out.splitlines()
    texts = lines[lines.index("Some texts of the test split:") + 2 :][:3]
    predictions = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    for shown, prediction in zip(texts, predictions, strict=False):
        assert prediction["predicted"] in shown
        assert prediction["text"] in shown
    # What is said last of all, where there is something to say: that a baseline is as good.
    *_, run, verdict = [*lines, ""] if str(folder) in lines[-1] else lines
    assert str(folder) in run
    assert not verdict or verdict.startswith("The model is no better than its baseline (")


@pytest.mark.parametrize("method", ["head", "lora"])
def test_every_method_reaches_a_report(cli, small, method) -> None:
    if method == "head":
        small = small[: small.index("--epochs")]
    outcome = cli("finetune", "sentiment", *small, "--method", method, "--output", "run", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(Path("run/run.json").read_text())["config"]["method"] == method
    assert json.loads(outcome.out)["n"] > 0


def test_flags_win_over_yaml_and_defaults_do_not(cli, small) -> None:
    Path("settings.yaml").write_text("seed: 5\nmax-length: 40\naccumulate: 3\n")
    outcome = cli(
        "finetune", "sentiment", *small, "--config", "settings.yaml", "--seed", 7, "--output", "run", "--json"
    )
    assert outcome.code == 0, outcome.err
    config = json.loads(Path("run/run.json").read_text())["config"]
    assert (config["seed"], config["max_length"], config["accumulate"]) == (7, 40, 3)


def test_columns_and_the_tasks_own_options_are_flags(cli, small, tmp_path) -> None:
    rows = [(f"text {number} of {label}", label) for number in range(12) for label in ("calm", "wild", "odd")]
    with (tmp_path / "moods.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("what was said", "mood"), *rows])
    columns = ["--column", "text=what was said", "--column", "label=mood"]
    labels = ["--labels", "wild", "--labels", "odd", "--labels", "calm"]
    outcome = cli(
        "finetune",
        "classification",
        *small[2:],
        "--data",
        tmp_path / "moods.csv",
        *columns,
        *labels,
        "--prompt",
        "Said: {text}",
        "--output",
        "run",
        "--json",
    )
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["labels"] == ["wild", "odd", "calm"]
    state = json.loads(Path("run/model/task.json").read_text())["state"]
    assert state["prompt"] == "Said: {text}"


def test_help_shows_every_setting_and_the_methods_defaults(cli) -> None:
    shown = cli("finetune", "sentiment", "--help")
    assert shown.code == 0
    flags = {f"--{name.replace('_', '-')}" for name in FinetuneConfig.model_fields}
    flags -= {"--options", "--method-options"}
    flags |= {"--lora-r", "--lora-target-modules", "--labels", "--prompt", "--config", "--output", "--resume", "--json"}
    assert {flag for flag in flags if f"  {flag} " not in shown.out} == set()
    table = shown.out[shown.out.index("Defaults by method") :]
    for method in ("full", "lora", "head"):
        assert f"\n  {method} " in table


def test_help_of_finetune_lists_the_tasks(cli) -> None:
    shown = cli("finetune", "--help").out
    assert "sentiment" in shown
    assert "Classify reviews and remarks" in shown


def test_an_option_that_is_a_setting_of_every_task_is_the_plugins_fault(cli, site, monkeypatch) -> None:
    site.install(
        "greedy",
        """
        from gpt_tasks import ClassificationTask, hookimpl
        from gpt_tasks.tasks.classification import ClassificationOptions

        class Options(ClassificationOptions):
            epochs: int = 3

        class Greedy(ClassificationTask):
            "Wants more than it should."
            name = "greedy"
            Options = Options

        @hookimpl
        def register_tasks():
            return [Greedy()]
        """,
    )
    loaded = load_plugins([*metadata.entry_points(group=GROUP), *site.entry_points()])
    monkeypatch.setattr("gpt_tasks.cli.finetune.installed_plugins", lambda: loaded)
    assert "greedy" in cli("finetune", "--help").out
    outcome = cli("finetune", "greedy")
    assert outcome.code == 3
    assert "Task 'greedy' of plugin 'greedy' has an option 'epochs'" in outcome.err


NOISY = """
    print("a plugin that talks on import")
    from gpt_tasks import hookimpl

    @hookimpl
    def observe(event):
        print("a plugin that talks of", event.kind)
    """


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_shows_loss_and_time_left_on_a_terminal_only(command_server, small, tmp_path, terminal) -> None:
    import pty

    ours, theirs = pty.openpty()
    how = {"TERM": "xterm", "COLUMNS": "200"} | ({"err": Path(os.ttyname(theirs))} if terminal else {})
    started = command_server.start("finetune", "sentiment", *small, "--output", tmp_path / "run", **how)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # so ends a pseudo-terminal
        while terminal and (part := os.read(ours, 4096)):
            shown += part
    os.close(ours)
    ended = started.wait()
    assert ended.returncode == 0
    bar = shown.decode(errors="replace") if terminal else ended.stderr
    assert ("training" in bar and "loss" in bar and "0:00:" in bar) == terminal
    assert ("\x1b" in bar) == terminal


def test_nothing_but_json_reaches_stdout_even_with_a_plugin_that_talks(command_server, site, small, tmp_path) -> None:
    site.install("noisy", NOISY)
    arguments = ["finetune", "sentiment", *small, "--output", tmp_path / "run", "--json"]
    ended = command_server.run(*arguments, path=[site.path])
    assert ended.returncode == 0, ended.stderr
    (line,) = ended.stdout.splitlines()
    assert json.loads(line)["task"] == "sentiment"
    assert "a plugin that talks on import" in ended.stderr
    assert "a plugin that talks of run_ended" in ended.stderr


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_before_the_first_checkpoint_leaves_nothing(command_server, small, tmp_path, sent, code) -> None:
    run = tmp_path / "run"
    flags = [*small[:-2], "--epochs", 5000, "--checkpoint-steps", 100_000, "--output", run]
    started = command_server.start("finetune", "sentiment", *flags)
    started.wait_until((run / "run.json").exists)
    time.sleep(0.5)
    os.kill(started.pid, sent)
    ended = started.wait()
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    assert not run.exists()


def test_interrupted_after_a_checkpoint_is_kept_for_resume_only(cli, command_server, small, tmp_path) -> None:
    run = tmp_path / "run"
    flags = [*small[:-2], "--epochs", 2000, "--checkpoint-steps", 2, "--output", run]
    started = command_server.start("finetune", "sentiment", *flags)
    started.wait_until(lambda: list(run.glob("checkpoints/checkpoint-*/COMPLETE")))
    os.kill(started.pid, signal.SIGINT)
    ended = started.wait()
    assert ended.returncode == 130, ended.stderr
    assert f"--output {run} --resume" in ended.stderr
    assert json.loads((run / "run.json").read_text())["status"] == "unfinished"

    unfinished = cli("predict", run, "A text.")
    assert unfinished.code == 5
    assert "unfinished" in unfinished.err
    again = cli("finetune", "sentiment", *small, "--output", run)
    assert again.code == 2
    assert "--resume" in again.err
    other = cli("finetune", "classification", "--output", run, "--resume")
    assert other.code == 2
    assert "'sentiment'" in other.err
    assert (run / "run.json").exists()


def test_a_finished_run_is_not_resumed(cli, finished_run) -> None:
    outcome = cli("finetune", "sentiment", "--output", finished_run, "--resume")
    assert outcome.code == 2
    assert "finished" in outcome.err


def test_resume_needs_a_folder(cli) -> None:
    outcome = cli("finetune", "sentiment", "--resume")
    assert outcome.code == 2
    assert "--output" in outcome.err


def test_only_the_first_process_speaks(cli, small, monkeypatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert cli("list", "heroes").err.splitlines()[0].startswith("[process 1] UsageError")
    assert main.run(["finetune", "sentiment", "--help"]) == 0


def test_a_wrong_file_writes_nothing(cli, tmp_path) -> None:
    (tmp_path / "settings.yaml").write_text("epochs: yes\n")
    outcome = cli("finetune", "sentiment", "--config", tmp_path / "settings.yaml")
    assert outcome.code == 2
    assert f"{tmp_path / 'settings.yaml'}:1: epochs: 'yes'" in outcome.err
    assert list(Path().iterdir()) == []


def test_run_json_records_the_origins(finished_run: Path) -> None:
    record = json.loads((finished_run / "run.json").read_text())
    assert record["origins"]["epochs"] == record["origins"]["data"] == "given"
    assert record["origins"]["seed"] == "default"
    assert record["origins"]["learning_rate"] in ("method", "task")

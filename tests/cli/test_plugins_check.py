"""`plugins check` says of a plugin's tasks what to change, and of what it cannot check why."""

from __future__ import annotations

import json
import os
import signal

import pytest

from gpt_tasks.plugins import installed_plugins
from gpt_tasks.testing import CHECKS

# Tasks that train nothing are checked at once.
MOODS = """
    from gpt_tasks import ClozeTask, hookimpl

    class Mood(ClozeTask):
        "Predict a mood."
        name = "mood"
        prompt = "{text} That is"
        ending = " {mood}"

    class Giveaway(Mood):
        "Predict a mood that the prompt names."
        name = "giveaway"
        prompt = "{text} That is {mood}, so it is"

    @hookimpl
    def register_tasks():
        return [Mood(), Giveaway()]
    """
SULKING = """
    raise RuntimeError("not before noon")
    """


@pytest.fixture
def moods(site):
    """A plugin of one task that is right and of one that leaks the answer."""
    site.install("moods", MOODS)
    samples = site.path / "samples"
    samples.mkdir()
    for split in ("train", "validation", "test"):
        rows = [{"text": f"{split} {n}: the sun is out.", "mood": f"bright {n}"} for n in range(4)]
        (samples / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    installed_plugins.cache_clear()
    return samples


def states(outcome, task):
    return {result["name"]: result for result in json.loads(outcome.out)["tasks"][task]}


@pytest.mark.usefixtures("moods")
def test_a_correct_task_is_reported_check_by_check(cli) -> None:
    outcome = cli("plugins", "check", "mood")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()[1:]
    assert [line.split()[:2] for line in lines] == [["mood", check.name] for check in CHECKS]
    assert {line.split()[2] for line in lines} == {"passed", "skipped"}


@pytest.mark.usefixtures("moods")
def test_a_task_that_fails_ends_with_3_and_says_what_to_change(cli) -> None:
    outcome = cli("plugins", "check", "giveaway")
    assert outcome.code == 3
    assert "PluginError: 'giveaway' fails 1 of its checks: target_does_not_leak" in outcome.err
    (line,) = [line for line in outcome.out.splitlines() if "FAILED" in line]
    assert "target_does_not_leak" in line
    assert "Let neither `prompt`" in line


@pytest.mark.usefixtures("moods")
def test_a_plugin_is_checked_by_all_its_tasks_and_json_is_all_that_stdout_gets(cli) -> None:
    outcome = cli("plugins", "check", "moods", "--json")
    assert outcome.code == 3
    assert set(json.loads(outcome.out)["tasks"]) == {"mood", "giveaway"}
    assert {result["status"] for result in states(outcome, "mood").values()} == {"passed", "skipped"}
    leak = states(outcome, "giveaway")["target_does_not_leak"]
    assert leak["status"] == "FAILED"
    assert leak["reason"] == next(check.reason for check in CHECKS if check.name == "target_does_not_leak")


@pytest.mark.parametrize(
    ("sent", "file"), [(signal.SIGTERM, "*.tokens"), (signal.SIGINT, "*.json"), (signal.SIGKILL, "*.json")]
)
def test_a_check_that_is_ended_leaves_nothing_and_starts_clean(command_server, tmp_path, sent, file) -> None:
    here, scratch = tmp_path / "here", tmp_path / "scratch"
    here.mkdir()
    scratch.mkdir()
    how = {"folder": here, "TMPDIR": str(scratch)}
    started = command_server.start("plugins", "check", "sentiment", **how)
    started.wait_until(lambda: list(scratch.rglob(file)))
    os.kill(started.pid, sent)
    ended = started.wait()
    if sent == signal.SIGKILL:
        assert ended.returncode == -sent
        assert command_server.run("plugins", "check", "sentiment", **how).returncode == 0
    else:
        assert ended.returncode == 128 + sent, ended.stderr
        assert list(scratch.iterdir()) == []
    assert list(here.iterdir()) == []


def test_samples_without_rows_are_reported_in_one_line(cli, moods) -> None:
    (moods / "train.jsonl").write_text("")
    outcome = cli("plugins", "check", "mood")
    assert outcome.code == 4
    assert outcome.out == ""
    message, _ = outcome.err.splitlines()
    assert "train.jsonl" in message


def test_a_name_that_is_not_installed_is_met_with_what_is(cli) -> None:
    outcome = cli("plugins", "check", "sentimant")
    assert outcome.code == 2
    message, hint = outcome.err.splitlines()
    assert message == "UsageError: There is no plugin and no task 'sentimant'"
    assert "Did you mean 'sentiment'?" in hint
    assert all(name in hint for name in installed_plugins().registry.tasks)


def test_a_plugin_without_tasks_reports_what_it_provides(cli) -> None:
    outcome = cli("plugins", "check", "heads")
    assert outcome.code == 2
    assert "provides no task to check: it provides head sequence" in outcome.err


def test_the_cause_of_a_left_out_plugin_is_reported(cli, site) -> None:
    site.install("sulking", SULKING)
    installed_plugins.cache_clear()
    outcome = cli("plugins", "check", "sulking")
    assert outcome.code == 3
    assert "PluginError: Plugin 'sulking' (acme 1.2) is left out: RuntimeError: not before noon" in outcome.err


def test_plugins_without_a_command_lists_and_its_help_names_the_check(cli) -> None:
    assert cli("plugins").out.splitlines()[0].split()[0] == "plugin"
    assert "check" in cli("plugins", "--help").out

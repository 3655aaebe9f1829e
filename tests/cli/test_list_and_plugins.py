"""`list` and `plugins` show what is registered, to people and to programs."""

from __future__ import annotations

import json
import re

import pytest

from gpt_tasks.plugins import installed_plugins


@pytest.mark.parametrize("kind", ["tasks", "backbones", "heads", "learners", "methods", "metrics", "suites"])
def test_list_shows_everything_of_a_kind(cli, kind) -> None:
    table = getattr(installed_plugins().registry, kind)
    shown = cli("list", kind)
    assert shown.code == 0
    lines = shown.out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == sorted(table)
    for name, line in zip(sorted(table), lines, strict=True):
        assert table[name].description in line

    entries = json.loads(cli("list", kind, "--json").out)[kind]
    assert [entry["name"] for entry in entries] == sorted(table)
    assert all(entry["plugin"] == table.owner(entry["name"]) for entry in entries)


def test_list_tasks_holds_the_built_in_ones(cli) -> None:
    assert {"sentiment", "classification"} <= {
        task["name"] for task in json.loads(cli("list", "tasks", "--json").out)["tasks"]
    }


def test_plugins_shows_what_each_provides(cli) -> None:
    shown = cli("plugins")
    (line,) = [line for line in shown.out.splitlines() if line.startswith("sentiment ")]
    assert "gpt-tasks" in line
    assert "register_tasks" in line
    assert "task sentiment" in line
    assert re.search(r" \d+ ms ", line)
    assert line.split()[-1] == "ok"
    (entry,) = [
        plugin for plugin in json.loads(cli("plugins", "--json").out)["plugins"] if plugin["name"] == "sentiment"
    ]
    assert entry["brings"] == ["task sentiment"]
    assert entry["hooks"] == ["register_tasks"]
    assert 0 < entry["seconds"] < 60
    assert (entry["state"], entry["error"]) == ("ok", "")

"""A distribution with damaged files, in site-packages among others, is named and stops no command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpt_tasks import plugins as module
from gpt_tasks.entry_points import installed_entry_points
from gpt_tasks.errors import PluginError
from gpt_tasks.plugins import GROUP, Plugins, installed_plugins, load_plugins

GOOD = """
    from gpt_tasks import ClassificationTask, hookimpl

    class Good(ClassificationTask):
        "A task."
        name = "good"

    @hookimpl
    def register_tasks():
        return [Good()]
    """


def damage(site, file: str, content: str | None, distribution: str = "acme") -> None:
    path = site.path / f"{distribution}-1.2.dist-info" / file
    if content is None:
        path.unlink()
    else:
        path.write_text(content)


DAMAGES = [
    ("METADATA", None, "METADATA of its distribution is missing or empty"),
    ("METADATA", "", "METADATA of its distribution is missing or empty"),
    ("METADATA", "no colon\n", "METADATA of its distribution has no Name"),
    ("METADATA", "Name: acme\n", "METADATA of its distribution has no Version"),
    ("entry_points.txt", "[gpt_tasks]\nbad\n", ""),
    ("entry_points.txt", "[gpt_tasks]\nbad = !!\n", "its entry point '!!' names no module"),
    ("entry_points.txt", "[gpt_tasks]\nbad =\n", "its entry point '' names no module"),
]


@pytest.mark.parametrize(("file", "content", "cause"), DAMAGES)
def test_a_damaged_distribution_is_named_and_passed_over(site, capsys, monkeypatch, file, content, cause) -> None:
    site.install("bad", GOOD)
    site.install("good", GOOD, distribution="other")
    damage(site, file, content)
    installed_plugins.cache_clear()
    found = installed_plugins()
    (failed,) = found.failures()
    assert cause in failed.error
    assert "good" in found.registry.tasks
    assert "sentiment" in found.registry.tasks
    (line,) = capsys.readouterr().err.splitlines()
    assert "acme" in line
    assert line.endswith(f"is left out: {failed.error}")
    monkeypatch.setenv("GPT_TASKS_STRICT", "1")
    installed_plugins.cache_clear()
    with pytest.raises(PluginError, match="acme"):
        installed_plugins()


def test_one_without_plugins_is_of_no_interest_and_of_two_of_a_name_the_first_counts(site, tmp_path) -> None:
    site.install("good", GOOD)
    broken = site.path / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "entry_points.txt").write_text("[console_scripts]\nnothing\n")
    before, damaged = installed_entry_points(GROUP)
    assert damaged == []
    later = tmp_path / "later" / "acme-0.9.dist-info"
    later.mkdir(parents=True)
    for file in ("METADATA", "entry_points.txt"):
        (later / file).write_text((site.path / "acme-1.2.dist-info" / file).read_text())
    sys.path.append(str(later.parent))
    try:
        assert installed_entry_points(GROUP)[0] == before
    finally:
        sys.path.remove(str(later.parent))


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("class Panic(BaseException): ...\nraise Panic('at the sky')", "Panic: at the sky"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("class Mute(Exception):\n    def __str__(self): raise RuntimeError('no')\nraise Mute", "Mute"),
    ],
)
def test_whatever_an_import_raises_leaves_that_plugin_out(site, source, cause) -> None:
    site.install("bad", source)
    site.install("good", GOOD, distribution="other")
    loaded = load_plugins(site.entry_points())
    assert [plugin.error for plugin in loaded.failures()] == [cause]
    assert list(loaded.registry.tasks) == ["good"]


def test_what_raises_when_it_is_shown_is_blamed_on_its_plugin(site) -> None:
    source = "class Mute(Exception):\n    def __str__(self): raise RuntimeError('no')\ndef fail(): raise Mute\n"
    name = site.install("bad", source)
    plugins: Plugins = load_plugins(site.entry_points())
    with pytest.raises(PluginError, match=r"^Plugin 'bad' \(acme 1.2\) failed: Mute"), plugins.attribute_errors():
        __import__(name).fail()


def test_a_plugin_that_loads_for_long_is_named_meanwhile(site, capsys, monkeypatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    site.install("slow", "import time; time.sleep(0.5)")
    site.install("good", GOOD)
    load_plugins(site.entry_points())
    assert capsys.readouterr().err == "Plugin 'slow' (acme 1.2) is still loading after 0.05 seconds.\n"


def test_no_damage_stops_a_command_that_computes(site, tiny_backbone_folder: Path) -> None:
    damages = [("METADATA", None), ("METADATA", ""), ("entry_points.txt", "[gpt_tasks]\nbad\n")]
    for number, (file, content) in enumerate(damages):
        site.install("bad", GOOD, distribution=f"acme{number}")
        damage(site, file, content, distribution=f"acme{number}")
    ended = subprocess.run(
        [sys.executable, "-m", "gpt_tasks", "next", str(tiny_backbone_folder), "The"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site.path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    lines = sorted(ended.stderr.splitlines())
    assert [f"acme{number}-1.2.dist-info" in line for number, line in enumerate(lines)] == [True] * 3

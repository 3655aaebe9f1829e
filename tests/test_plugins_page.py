"""What docs/plugins.md teaches is true: its code is what `gpt-tasks new grades --kind family` writes.

That it is installed, passes its tests and is trained is for tests/test_scaffold.py.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import gpt_tasks
from gpt_tasks.plugins import installed_plugins, load_plugins
from gpt_tasks.scaffold import NewPlugin, write_plugin

PAGE = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> NewPlugin:
    return write_plugin("grades", "family", tmp_path_factory.mktemp("new") / "gpt-tasks-grades", load_plugins([]))


def test_its_code_is_that_of_the_files(made: NewPlugin) -> None:
    module, tests = made.folder / "gpt_tasks_grades", made.folder / "tests"
    files = [module / "__init__.py", module / "learner.py", tests / "test_grades.py"]
    assert blocks("python") == [path.read_text(encoding="utf-8") for path in files]
    assert sorted(files) == sorted(made.folder.rglob("*.py")), "no file is left out"
    assert blocks("toml") == [(made.folder / "pyproject.toml").read_text(encoding="utf-8")]
    samples = (module / "samples" / "train.jsonl").read_text(encoding="utf-8")
    (shown,) = blocks("json")
    assert samples.startswith(shown)


def test_there_are_no_other_blocks() -> None:
    assert set(re.findall(r"^```(\w*)\n.*?^```$", PAGE, flags=re.DOTALL | re.MULTILINE)) == {
        "python",
        "toml",
        "json",
        "bash",
    }


def test_its_commands_are_those_that_are_printed(made: NewPlugin) -> None:
    first, install, own_data = blocks("bash")
    assert first == "gpt-tasks new grades --kind family\n"
    assert install.splitlines() == [command.replace(f"{made.folder.parent}/", "") for command in made.commands]
    for program, command, *arguments in map(shlex.split, own_data.splitlines()):
        assert program == "gpt-tasks"
        assert command in installed_plugins().registry.commands
        fields = {each.partition("=")[0] for each in arguments if "=" in each}
        assert fields <= {"text", "grade"}


def test_the_methods_that_it_names_are_there() -> None:
    named = re.findall(r"`(\w+)\.(\w+)`", "\n".join(line for line in PAGE.splitlines() if line.startswith("|")))
    assert len(named) > 20
    for kind, attribute in named:
        fields = getattr(getattr(gpt_tasks, kind), "__dataclass_fields__", {})
        assert attribute in fields or hasattr(getattr(gpt_tasks, kind), attribute), f"{kind}.{attribute}"


def test_every_method_of_the_files_is_explained(made: NewPlugin) -> None:
    prose = re.sub(r"^```.*?^```$", "", PAGE, flags=re.DOTALL | re.MULTILINE)
    for block in blocks("python")[:2]:
        for method in re.findall(r"^    def ([a-z]\w+)\(", block, flags=re.MULTILINE):
            assert method in prose, method


def test_its_links_lead_somewhere() -> None:
    docs = Path(__file__).parents[1] / "docs"
    for target in re.findall(r"\]\((\w[\w/]*\.md)", PAGE):
        assert target.startswith("generated/") or (docs / target).is_file(), target
    assert re.search(r"^plugins$", (docs / "index.md").read_text(encoding="utf-8"), flags=re.MULTILINE)

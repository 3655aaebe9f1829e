"""Every built-in suite reads local files with --data-dir, those that docs/suites.md lists."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.scoring.prompting import read_examples
from gpt_tasks.scoring.suites import load_suite, refuse_unread

PAGE = Path(__file__).parents[2] / "docs" / "suites.md"
CHOICES = {"choices": ["it's hot", "it is cold"], "answer": 1}
# A row in the columns of each suite's local file, and what is asked first.
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "arc_challenge": ({"context": "Question: Is ice hot?", **CHOICES}, "Question: Is ice hot?\nAnswer: it's hot"),
    "arc_easy": ({"context": "Question: Is ice hot?", **CHOICES}, "Question: Is ice hot?\nAnswer: it's hot"),
    "blimp": ({"paradigm": "causative", "good": "A cat sleeps.", "bad": "A cat sleep."}, " A cat sleeps."),
    "boolq": (
        {"context": "Passage: Ice.\nQuestion: is it?", "answer": 1, "choices": ["no", "yes"]},
        "Ice.\nQuestion: is it?\nAnswer: no",
    ),
    "copa": ({"context": "Ice fell, because", **CHOICES}, "Ice fell because  it's hot"),
    "crows_pairs": ({"sent_more": "He ran.", "sent_less": "She ran."}, "He ran."),
    "gsm8k": ({"question": "1 + 1?", "rationale": "It is 2.", "answer": "2"}, "Question: 1 + 1?\nAnswer:"),
    "hellaswag": (
        {"activity_label": "Tea", "ctx_a": "It boils.", "ctx_b": "he", "endings": ["a", "b", "c", "d"], "label": "3"},
        "Tea: It boils. He a",
    ),
    "lambada_openai": ({"text": "I saw a dog"}, "I saw a dog"),
    "openbookqa": ({"context": "Ice is", **CHOICES}, "Ice is it's hot"),
    "piqa": ({"context": "Question: Open a jar\n", **CHOICES}, "Question: Open a jar\nAnswer: it's hot"),
    "wikitext": ({"page": "A film , by him .\n"}, "A film, by him .\n"),
    "winogrande": (
        {"sentence": "Ann met Eve and _ left.", "option1": "Ann", "option2": "Eve", "answer": "2"},
        "Ann met Eve and Ann left.",
    ),
}


def listed() -> dict[str, str]:
    """The file of each suite, as the page's table says."""
    table = PAGE.read_text(encoding="utf-8").partition("| suite | file under DIR |")[2].partition("\n\n")[0]
    return dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", table, re.MULTILINE))


def test_the_page_lists_every_suite_but_the_one_with_data_of_its_own() -> None:
    assert set(listed()) == set(ROWS) == set(installed_plugins().registry.suites) - {"starter"}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_local_file_is_read(name: str, tmp_path: Path, zipped: bool) -> None:
    row, asked = ROWS[name]
    file = tmp_path / listed()[name]
    file.parent.mkdir()
    content = (json.dumps(row) + "\n").encode()
    if zipped:
        Path(f"{file}.gz").write_bytes(gzip.compress(content))
    else:
        file.write_bytes(content)
    registry = installed_plugins().registry
    (task,) = load_suite(name, registry, data_dir=tmp_path).tasks
    ((example, _),) = read_examples(task, registry.sources, None)
    first: Any = task.task.requests(example, "")[0]
    assert getattr(first, "context", "") + getattr(first, "text", "") == asked


def test_a_suite_with_data_of_its_own_takes_no_other(tmp_path: Path) -> None:
    registry = installed_plugins().registry
    starter, other = (load_suite(name, registry, data_dir=tmp_path) for name in ("starter", "piqa"))
    own = load_suite("starter", registry).tasks
    assert [task.source for task in starter.tasks] == [task.source for task in own]
    refuse_unread(tmp_path, [starter, other])
    with pytest.raises(UsageError, match="has no effect: starter comes with its data"):
        refuse_unread(tmp_path, [starter])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    registry = installed_plugins().registry
    (task,) = load_suite("boolq", registry, data_dir=tmp_path).tasks
    with pytest.raises(DataError, match=r"boolq/validation\.jsonl\S*: there is no such file"):
        list(read_examples(task, registry.sources, None))

"""`finetune`, `evaluate` and `score` tell of rows in training and test, with two labels, and of equal choices."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

TEXTS = [(f"The {thing} was {word}.", label) for thing in ("soup", "walk", "film") for word, label in
         (("cold", "negative"), ("lovely", "positive"), ("dull", "negative"), ("warm", "positive"))]  # fmt: skip
CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def labelled(rows: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"text": text, "label": label} for text, label in rows]


@pytest.fixture
def notes(cli: Any) -> Callable[..., list[str]]:
    """Run a command, and return the notes of its JSON."""

    def run(*arguments: object) -> list[str]:
        outcome = cli(*arguments, "--json")
        assert outcome.code == 0, outcome.err
        found: list[str] = json.loads(outcome.out)["notes"]
        return found

    return run


@pytest.fixture
def suite(tmp_path: Path) -> Callable[..., Path]:
    def write(**entry: Any) -> Path:
        path = tmp_path / "own.yaml"
        path.write_text(yaml.safe_dump({"name": "own", "tasks": [entry]}), encoding="utf-8")
        return path

    return write


def test_a_run_knows_the_rows_that_it_was_trained_on(
    notes: Any, cli: Any, suite: Any, tiny_backbone_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    for split, rows in (("train", TEXTS[:8]), ("validation", TEXTS[8:10]), ("test", TEXTS[10:])):
        jsonl(folder / f"{split}.jsonl", labelled(rows))
    settings = ["--backbone", tiny_backbone_folder, "--epochs", 1, "--output", "run"]
    assert cli("finetune", "sentiment", "--data", folder, *settings).code == 0
    told = "Rows that the model was trained on: 8 of 12. New texts would give other figures."
    every = jsonl(tmp_path / "every.jsonl", labelled(TEXTS))
    assert told in notes("evaluate", "run", "--data", every)
    assert told in notes("evaluate", "run", "--task", "sentiment", "--data", every)
    assert f"sentiment: {told}" in notes("score", "run", "--suite", suite(task="sentiment", source=str(every)))
    assert not [note for note in notes("evaluate", "run", "--data", folder) if "trained on" in note]
    # A run on top of it knows its rows too, and a note says so before it is trained.
    swapped = tmp_path / "swapped"
    for split, rows in (("train", TEXTS[8:10]), ("validation", TEXTS[10:]), ("test", TEXTS[:8])):
        jsonl(swapped / f"{split}.jsonl", labelled(rows))
    again = ["--backbone", "run", "--epochs", 1, "--output", "again", "--json"]
    outcome = cli("finetune", "sentiment", "--data", swapped, *again)
    assert outcome.code == 0, outcome.err
    assert "test: Rows that the model was trained on: 8 of 8." in outcome.err
    assert any("trained on: 10 of 12." in note for note in notes("evaluate", "again", "--data", every))
    (Path("again") / "trained_rows.npy").unlink()
    assert not [note for note in notes("evaluate", "again", "--data", every, "--no-verify") if "trained on" in note]


def test_contradictions_are_told(
    notes: Any, cli: Any, suite: Any, finished_run: Path, tiny_backbone_folder: Path, tmp_path: Path
) -> None:
    rows = [*TEXTS, (TEXTS[0][0], "positive"), (f" {TEXTS[1][0]}", "negative")]
    data = jsonl(tmp_path / "rows.jsonl", labelled(rows))
    told = "Rows whose text another row has with another right answer: 4."
    assert told in notes("evaluate", finished_run, "--data", data)
    assert told in notes("evaluate", tiny_backbone_folder, "--task", "sentiment", "--data", data)
    scored = notes("score", tiny_backbone_folder, "--suite", suite(task="sentiment", source=str(data)))
    assert f"sentiment: {told}" in scored
    outcome = cli("finetune", "sentiment", "--data", data, "--backbone", tiny_backbone_folder, "--epochs", 1)
    assert outcome.code == 0, outcome.err
    assert f"train: {told}" in outcome.err


@pytest.mark.parametrize("task", ["sentiment", "text-to-text", "multiple-choice"])
def test_shots_are_from_train_and_never_the_text_that_is_asked_about(
    cli: Any, notes: Any, tiny_backbone_folder: Path, tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpt_tasks.evaluation import asking

    def row(number: int) -> dict[str, Any]:
        rows = {
            "sentiment": {"text": f"The soup {number}.", "label": ("negative", "positive")[number % 2]},
            "text-to-text": {"question": f"Question {number}?", "answer": f"answer {number}"},
            "multiple-choice": {"question": f"Question {number}?", "choices": ["yes", "no"], "answer": number % 2},
        }
        return rows[task]

    folder = tmp_path / "data"
    jsonl(folder / "train.jsonl", [row(number) for number in range(4)])
    jsonl(folder / "test.jsonl", [row(number) for number in range(2, 6)])
    drawn: list[tuple[str, list[str]]] = []
    as_usual = asking.shots_for

    def watched(*arguments: Any, **settings: Any) -> Any:
        shots = as_usual(*arguments, **settings)

        def draw(example: Any) -> Any:
            found = shots(example)
            drawn.append((next(iter(example.inputs.values())), [next(iter(each.inputs.values())) for each in found]))
            return found

        return draw

    monkeypatch.setattr(asking, "shots_for", watched)
    few = ["--option", "max_tokens=8"] if task == "text-to-text" else []
    told = notes("evaluate", tiny_backbone_folder, "--task", task, "--data", folder, "--shots", 2, *few)
    assert "Texts that are among the rows of shots and baselines too: 2 of 4. None is among its own shots." in told
    train = {next(iter(row(number).values())) for number in range(4)}
    assert len(drawn) == 4
    for text, shots in drawn:
        assert len(set(shots)) == 2
        assert set(shots) <= train - {text}


def test_a_suite_on_one_file_draws_other_rows(
    notes: Any, suite: Any, tiny_backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpt_tasks.scoring import opened_suite as scoring

    rows = [{"question": f"Question {number}?", "choices": ["yes", "no"], "answer": 0} for number in range(6)]
    data = jsonl(tmp_path / "rows.jsonl", rows)
    prompts: list[str] = []
    as_usual = scoring.ask

    def watched(*arguments: Any) -> Any:
        for each in as_usual(*arguments):
            prompts.append(each.requests[0].context)
            yield each

    monkeypatch.setattr(scoring, "ask", watched)
    entry = {"task": "multiple-choice", "source": str(data), "prompt": "{question}", "shots": 3}
    for number, more in enumerate(({}, {"shots_split": "train"})):
        told = notes("score", tiny_backbone_folder, "--suite", suite(**entry, **more), "--output", f"scores-{number}")
        assert told == []
    assert len(prompts) == 12
    for prompt in prompts:
        asked = prompt.rpartition("\n\n")[2]
        assert prompt.count(asked) == 1


def test_equal_choices_are_scored_and_counted_but_not_learned(
    notes: Any, cli: Any, suite: Any, tiny_backbone_folder: Path, tmp_path: Path
) -> None:
    choices = [["cold", "hot"], ["decrease", "increase", "decrease"], ["a", "b"], ["c", "d"]]
    rows = [{"question": f"What {n}?", "choices": some, "answer": n % 2} for n, some in enumerate(choices)]
    data = jsonl(tmp_path / "rows.jsonl", rows)
    told = "Rows with equal choices, of which the first counts: 1."
    entry = {"task": "multiple-choice", "source": str(data), "prompt": "{question}"}
    assert f"multiple-choice: {told}" in notes("score", tiny_backbone_folder, "--suite", suite(**entry))
    assert told in notes("evaluate", tiny_backbone_folder, "--task", "multiple-choice", "--data", data)
    learn = ["finetune", "multiple-choice", "--backbone", tiny_backbone_folder, "--data"]
    refused = cli(*learn, data)
    assert refused.code == 4
    assert "rows.jsonl:2: choices 0 and 2 are equal: 'decrease'" in refused.err
    folder = tmp_path / "data"
    jsonl(folder / "train.jsonl", [rows[0], *rows[2:]])
    jsonl(folder / "test.jsonl", rows[1:2])
    jsonl(folder / "validation.jsonl", [{**rows[0], "question": "Where?"}])
    outcome = cli(*learn, folder, "--epochs", 1, "--output", "run")
    assert outcome.code == 0, outcome.err
    assert f"test: {told}" in outcome.err


def test_items_that_a_chat_template_breaks_are_told_before_they_are_scored(
    cli: Any, notes: Any, suite: Any, tiny_backbone_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = tmp_path / "chat"
    AutoModelForCausalLM.from_pretrained(tiny_backbone_folder).save_pretrained(model)
    tokenizer = AutoTokenizer.from_pretrained(tiny_backbone_folder)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(model)
    data = jsonl(tmp_path / "rows.jsonl", [{"context": "The soup was", "target": "cold", "text": "The soup was cold."}])
    cloze = suite(task="cloze", source=str(data))
    outcome = cli("score", model, "--suite", cloze, "--chat-template", "--output", "first")
    assert outcome.code == 0, outcome.err
    assert "cloze: Its items continue a text, but in a chat template a model answers instead" in outcome.err
    assert not [note for note in notes("score", model, "--suite", cloze, "--output", "second") if "template" in note]
    rolling = suite(task="language-modeling", source=str(data))
    useless = cli("score", model, "--suite", rolling, "--chat-template", "--output", "third")
    assert useless.code == 2
    assert "--chat-template has no effect: whole texts are scored without it" in useless.err
    assert not Path("third").exists()
    both = tmp_path / "both.yaml"
    tasks = [{"task": task, "source": str(data)} for task in ("cloze", "language-modeling")]
    both.write_text(yaml.safe_dump({"name": "both", "tasks": tasks}))
    told = notes("score", model, "--suite", both, "--chat-template", "--output", "fourth")
    assert "language-modeling: Whole texts are scored without the chat template." in told


@pytest.mark.parametrize(
    ("items", "continue_a_text"),
    [
        ([{"question": "A man climbs a roof. He", "choices": ["falls", "sings"], "answer": 0}], True),
        ([{"question": "A man climbs a roof.", "choices": ["He falls.", "He sings."], "answer": 0}], True),
        ([{"question": "What is on a roof?", "choices": ["a man", "a cow"], "answer": 0}], False),
        ([{"question": "The roof is\nAnswer:", "choices": ["red", "blue"], "answer": 0}], False),
        ([{"question": "屋顶上有什么\uff1f", "choices": ["人", "牛"], "answer": 0}], False),
    ],
)
def test_several_endings_of_a_text_are_told_from_answers(
    suite: Any, tmp_path: Path, items: list[dict[str, Any]], continue_a_text: bool
) -> None:
    from gpt_tasks.plugins import installed_plugins
    from gpt_tasks.scoring.prompting import ShotsPool, ask, notes_of, read_examples
    from gpt_tasks.scoring.suites import load_suite

    data = jsonl(tmp_path / "rows.jsonl", items)
    registry = installed_plugins().registry
    (task,) = load_suite(str(suite(task="multiple-choice", source=str(data), prompt="{question}")), registry).tasks
    examples = list(read_examples(task, registry.sources, None))
    asked = list(ask(task, examples, ShotsPool(), "random", 0, lambda text: f"<user>{text}<assistant>"))
    told = [note for note in notes_of(asked, [task], [ShotsPool()], None, chat=True) if "continue a text" in note]
    assert bool(told) == continue_a_text

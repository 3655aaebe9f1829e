"""A responder of a plugin answers wherever a model does, gets no request twice, and can refuse."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from gpt_tasks import plugins
from gpt_tasks.cli.main import run
from gpt_tasks.errors import ModelError, PluginError, UsageError
from gpt_tasks.plugins import installed_plugins, load_plugins
from gpt_tasks.scoring.cache import key_of_request
from gpt_tasks.scoring.responder import find_responder, open_responder
from gpt_tasks.scoring.score import score
from gpt_tasks.types import Continuation, Generation, LogLikelihood, Rolling

# What is behind the prefix says how it behaves. Everything that it answers is noted, since it is paid for.
MOCK = """
from pathlib import Path

from gpt_tasks import Continuation, Generation, LogLikelihood, ModelError, ResponderSpec, Rolling, UsageError, hookimpl


class Mock:
    def __init__(self, location, settings):
        if settings.get("precision"):
            raise UsageError("mock: has no precision", "Leave it out.")
        self.location, self.settings = location, dict(settings)
        if location == "named":
            self.identity = {"model": "mock-7b", "server": Path("server").read_text()}

    def respond(self, requests):
        if self.location == "short":
            requests = requests[:-1]
        for request in requests:
            if self.location == "writes" and not isinstance(request, Generation):
                raise UsageError("mock:writes gives no log-likelihoods", "Leave the task out.")
            if isinstance(request, Rolling):
                raise ModelError("mock: reads no whole texts", "Leave the task out.")
            if Path("stop").exists() and Path("asked").exists() and len(Path("asked").read_text().splitlines()) >= 3:
                raise KeyboardInterrupt
            with Path("asked").open("a") as asked:
                print(repr(request), file=asked)
            if isinstance(request, Continuation):
                yield "a text" if self.location == "odd" else LogLikelihood(-len(request.text), False, 2)
            elif request.messages:
                yield f" {len(request.messages)} turns: {request.messages[-1]['content'].upper()}"
            else:
                yield "cold"


@hookimpl
def register_responders():
    return [ResponderSpec("mock:", "A model of a test", Mock)]
"""
ITEMS = [
    {"question": "The sun is", "choices": ["hot", "a cold stone"], "answer": 0},
    {"question": "Snow is", "choices": ["black as coal", "white"], "answer": 1},
    {"question": "Dogs", "choices": ["lay eggs", "bark"], "answer": 0},
    {"question": "Dogs", "choices": ["bark", "lay eggs"], "answer": 0},
]
TASKS: dict[str, dict[str, Any]] = {
    "choices": {"task": "multiple-choice", "source": "items.jsonl", "prompt": "{question}", "metrics": ["accuracy"]},
    "last": {"task": "cloze", "source": "rows.jsonl"},
    "texts": {"task": "language-modeling", "source": "rows.jsonl"},
    "writing": {"task": "text-to-text", "source": "rows.jsonl", "prompt": "{context}", "max_tokens": 4},
}


@pytest.fixture(autouse=True)
def mock(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin is installed, and the test runs in an empty folder."""
    site.install("mock", MOCK)
    installed_plugins.cache_clear()
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def suite(tmp_path: Path) -> Callable[..., str]:
    """Write a suite of some of the tasks."""
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    row = {"context": "The soup was", "target": "cold", "text": "The soup was cold.", "answer": "cold"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")

    def write(*names: str) -> str:
        content = {"name": "own", "tasks": [{"name": name, **TASKS[name]} for name in names]}
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))
        return str(tmp_path / "own.yaml")

    return write


def asked() -> list[str]:
    return Path("asked").read_text().splitlines() if Path("asked").exists() else []


def command(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


def test_a_suite_is_scored(suite: Any) -> None:
    scores, folder = score("mock:any", suite("choices", "last", "writing"))
    assert str(folder) == "scores/mock-any-own"
    choices, last, writing = scores.tasks
    assert choices.metrics["accuracy"].value == 0.75, "it finds the shorter one likelier"
    assert last.metrics["perplexity"].value == pytest.approx(math.exp(len(" cold")))
    assert writing.metrics["exact_match"].value == 1
    assert scores.model == {"spec": "mock:any", "fingerprint": "mock:any", "parameters": None}
    assert not {"precision", "device", "engine", "engine_used"} & set(scores.settings)
    rows = pq.read_table(folder / "examples.parquet").to_pylist()
    assert rows[0]["log_likelihoods"] == [-4.0, -13.0]
    assert len(asked()) == len(set(asked())) == 6 + 1 + 1, "the two items about dogs ask the same"


def test_a_scoring_that_was_stopped_asks_nothing_twice(suite: Any) -> None:
    path, whole = suite("choices", "last", "writing"), Path("whole")
    Path("stop").touch()
    with pytest.raises(KeyboardInterrupt):
        score("mock:any", path, output=Path("out"))
    assert len(asked()) == 3
    assert not Path("out/scores.json").exists()
    Path("stop").unlink()
    scores, _ = score("mock:any", path, output=Path("out"))
    assert len(asked()) == len(set(asked())) == 8
    again, _ = score("mock:any", path, output=Path("out"))
    assert len(asked()) == 8
    assert again.to_json()["tasks"] == scores.to_json()["tasks"]
    fresh, _ = score("mock:any", path, output=whole)
    assert fresh.to_json()["tasks"] == scores.to_json()["tasks"], "the number of tokens is saved too"


def test_answers_of_another_are_not_taken(suite: Any, capsys: Any) -> None:
    path = suite("choices")
    Path("server").write_text("one")
    scores, _ = score("mock:named", path, output=Path("out"))
    assert scores.model["fingerprint"] == "mock-7b"
    assert scores.settings["server"] == "one"
    Path("server").write_text("two")
    with pytest.raises(UsageError, match="out holds scores of another server: one, not two"):
        score("mock:named", path, output=Path("out"))
    Path("out/scores.json").unlink()
    score("mock:named", path, output=Path("out"))
    assert "put aside" in capsys.readouterr().out
    assert len(asked()) == 12


def test_what_is_refused_is_reported_with_its_task_before_further_requests(suite: Any, capsys: Any) -> None:
    path = suite("writing", "choices", "last", "texts")
    assert command("score", "mock:any", "--suite", path) == 5
    assert capsys.readouterr().err.startswith("ModelError: Task 'texts': mock: reads no whole texts\nLeave the task")
    assert len(asked()) == 1
    assert command("score", "mock:writes", "--suite", path) == 2
    assert "Task 'choices': mock:writes gives no log-likelihoods" in capsys.readouterr().err
    assert len(asked()) == 1, "what is written is asked for last"


@pytest.mark.parametrize(
    ("location", "told"),
    [("odd", "to a Continuation the responder gave 'a text'"), ("short", "to a Continuation the responder gave None")],
)
def test_what_is_no_response_is_reported(location: str, told: str) -> None:
    with pytest.raises(PluginError, match=f"mock:{location}: {told}"):
        open_responder(f"mock:{location}").answer([Continuation("a", " b"), Continuation("a", " c")])


def test_evaluate_and_predict_ask_it(capsys: Any) -> None:
    Path("reviews.csv").write_text("text,label\nLovely soup.,positive\nI regret it.,negative\n")
    assert command("evaluate", "mock:any", "--task", "sentiment", "--data", "reviews.csv", "--json") == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["accuracy"]["value"] == 0.5
    words = ["--label-word", "positive=good", "--label-word", "negative=dreadful"]
    assert command("predict", "mock:any", "--task", "sentiment", *words, "Lovely soup.", "--json") == 0
    (told,) = json.loads(capsys.readouterr().out)["predictions"]
    assert told["probabilities"]["positive"] == pytest.approx(1 / (1 + math.exp(-4)), abs=1e-4)
    assert command("predict", "mock:any", "--task", "sentiment", "x", "--precision", "bf16") == 2
    assert "mock: has no precision" in capsys.readouterr().err


def test_one_talks_with_it(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["Hello", "And you?", "/save talk.jsonl", "/reset", "Again", "/quit"]
    monkeypatch.setattr("gpt_tasks.cli.chat._lines", lambda: iter(lines))
    assert command("chat", "mock:any", "--system", "Be kind.", "--temperature", "0") == 0
    assert capsys.readouterr().out.splitlines() == ["2 turns: HELLO", "4 turns: AND YOU?", "2 turns: AGAIN"]
    (row,) = map(json.loads, Path("talk.jsonl").read_text().splitlines())
    assert [turn["role"] for turn in row["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    assert command("chat", "mock:any", "--top-p", "0.5") == 2
    assert "--top-p is for a model on this machine: mock:any gives its likeliest" in capsys.readouterr().err


def test_only_what_was_said_of_how_is_handed_on() -> None:
    responder: Any = open_responder("mock:any", device="cpu", precision="float32", engine="trie", batch_tokens=None)
    assert responder._responder.settings == {"device": "cpu"}


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("moc:any", "There is no responder 'moc'\nDid you mean 'mock'"),
        ("mock:", "mock: names no model\nGive its name after the colon: mock:NAME"),
        ("other:any", "There is no responder 'other'\nThere are: mock"),
    ],
)
def test_a_prefix_that_leads_nowhere_is_reported(model: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        open_responder(model)


def test_what_is_on_this_machine_is_no_responders() -> None:
    Path("mock:folder").mkdir()
    names = ["tiny", "OWNER/NAME@main", "C:\\models\\tiny", "./a:b", "mock:folder"]
    assert [find_responder(name) for name in names] == [None] * len(names)


def test_without_any_plugin_the_prefix_is_reported_as_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugins.SELECTED, "")
    installed_plugins.cache_clear()
    with pytest.raises(UsageError, match="There is no responder 'mock'\nNo installed plugin provides one"):
        open_responder("mock:any")


def test_what_needs_a_local_model_is_refused(suite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="--chat-template: mock:any has no tokenizer"):
        score("mock:any", suite("choices"), chat_template=True)
    with pytest.raises(UsageError, match="evaluates a model on this machine, not mock:any"):
        score("mock:any", "lm-eval:piqa")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="several processes are for a model on this machine"):
        open_responder("mock:any")
    assert asked() == []


def test_a_prefix_belongs_to_one_plugin(site: Any) -> None:
    site.install("second", MOCK)
    site.install("third", MOCK.replace('ResponderSpec("mock:", "A model of a test", Mock)', "Mock"))
    first, second, third = load_plugins(site.entry_points()).plugins
    assert (first.name, first.brings) == ("mock", ("responder mock",))
    assert "the responder name 'mock' is taken by plugin 'mock'" in second.error
    assert "which is no ResponderSpec" in third.error


def test_keys_distinguish_requests() -> None:
    turn = {"role": "user", "content": "a"}
    requests = [
        Continuation("a", "b"),
        Continuation("", "ab"),
        Rolling("ab"),
        Generation("a", ("b",), 3),
        Generation("a", (), 3),
        Generation("a", ("b",), 4),
        Generation("", (), 3, (turn,)),
        Generation("", (), 3, (turn, turn)),
    ]
    assert len({key_of_request(request) for request in requests}) == len(requests)
    assert key_of_request(Continuation("a", "b")) == key_of_request(Continuation("a", "b"))


def test_the_local_model_is_a_responder(tiny_backbone_folder: Path) -> None:
    scorer = open_responder(str(tiny_backbone_folder), device="cpu")
    requests = [Continuation("The soup", " was"), Generation("The soup", ("\n",), 4), Rolling("The soup was cold.")]
    assert list(scorer.respond(requests)) == scorer.answer(requests).answers  # type: ignore[union-attr]
    assert isinstance(scorer.answer(requests).answers[0], LogLikelihood)
    talk = Generation("", (), 4, ({"role": "user", "content": "Hello"},))
    with pytest.raises(ModelError, match="no chat template"):
        scorer.answer([talk])
    scorer.tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    )
    told = "user: Hello\nassistant:"
    assert scorer.answer([talk]).answers == scorer.answer([Generation(told, (), 4)]).answers

"""lm-evaluation-harness with our model in it gives the figures that it gives with its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from transformers import GPT2Config, PreTrainedTokenizerBase

from gpt_tasks.backbone.load import load_backbone
from gpt_tasks.cli import main
from gpt_tasks.errors import DataError, ModelError, UsageError
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.scoring.score import score
from gpt_tasks.scoring.scorer import Scorer
from gpt_tasks.types import Event

pytest.importorskip("lm_eval")

from gpt_tasks.scoring.lm_eval import HarnessModel, harness_tasks, score_lm_eval

SEED = 7
SUBJECTS = ("soup", "train", "film", "hotel", "waiter", "coffee", "view", "cello", "这部电影")
CHOICES = ("cold and weak", "never late", "splendid", "a waste of two good hours 😂")
# As long as several windows at the end.
TEXTS = [
    f"The {subject} was {choice}. " * times
    for times, (subject, choice) in enumerate(zip(SUBJECTS, (*CHOICES, *CHOICES, "fine"), strict=True))
]

QUESTIONS = [
    {
        "question": f"How was the {subject}?",
        "choices": [*CHOICES[place % 3 :], *CHOICES[: place % 3]],
        "answer": place % 4,
    }
    for place, subject in enumerate(SUBJECTS)
]
MULTIPLE_CHOICE = {
    "output_type": "multiple_choice",
    "test_split": "test",
    "training_split": "train",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
    "metric_list": [{"metric": name} for name in ("acc", "acc_norm", "brier_score")],
}
LOGLIKELIHOOD = {
    "output_type": "loglikelihood",
    "test_split": "test",
    "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
    "doc_to_target": "{{' ' + text.split(' ')[-1]}}",
    "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
}
ROLLING = {
    "output_type": "loglikelihood_rolling",
    "test_split": "test",
    "doc_to_text": "",
    "doc_to_target": "text",
    "metric_list": [{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
}
GENERATE = {
    "output_type": "generate_until",
    "test_split": "test",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["R", "ehe", " A"], "max_gen_toks": 12, "do_sample": False},
    "metric_list": [{"metric": "exact_match"}, {"metric": "chrf"}],
}


@pytest.fixture(scope="module")
def folder(
    make_model: Callable[..., Any], tiny_tokenizer: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder: Path = tmp_path_factory.mktemp("model")
    make_model(GPT2Config, n_embd=32, n_layer=2, n_head=4, n_positions=128).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Scorer:
    backbone = load_backbone(str(folder), {})
    return Scorer(backbone, device=torch.device("cpu"), precision="float32", batch_tokens=512)


@pytest.fixture(scope="module")
def harness(folder: Path) -> Any:
    from lm_eval.models.huggingface import HFLM

    backbone = load_backbone(str(folder), {})
    return HFLM(pretrained=backbone.model, tokenizer=backbone.tokenizer, batch_size=4, device="cpu")


@pytest.fixture
def few_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let lm-evaluation-harness find the tasks of one of its folders only: to read all of them takes long."""
    from lm_eval import tasks

    folder = str(Path(tasks.__file__).parent / "hellaswag")

    class Few(tasks.TaskManager):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            super().__init__(**{**settings, "include_defaults": False, "include_path": folder})

    monkeypatch.setattr(tasks, "TaskManager", Few)


@pytest.fixture
def task(tmp_path: Path) -> Callable[..., str]:
    """Write a task of lm-evaluation-harness and its data; return the path of its file."""

    def write(config: dict[str, Any], **splits: list[dict[str, Any]]) -> str:
        files = {}
        for split, rows in splits.items():
            path = tmp_path / f"{split}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            files[split] = str(path)
        data = {"data_files": files, "cache_dir": str(tmp_path / "cache")}
        path = tmp_path / "mine.yaml"
        content = {"task": "mine", "dataset_path": "json", "dataset_kwargs": data, "metadata": {"version": 3}, **config}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return str(path)

    return write


def theirs(model: Any, path: str, **settings: Any) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=False)
    return simple_evaluate(model=model, tasks=[path], task_manager=manager, log_samples=False, **settings)  # type: ignore[no-any-return]


def agree(ours: dict[str, Any], expected: dict[str, Any]) -> None:
    """Figures to 1e-6, their drawn standard errors to 1e-5, and the rest exactly."""
    assert set(ours) == set(expected)
    for name, value in expected.items():
        off = 1e-5 if "_stderr" in name else 1e-6
        assert ours[name] == (value if isinstance(value, str) else pytest.approx(value, rel=off, abs=off)), name


def compare(scorer: Scorer, harness: Any, path: str, shots: int, metrics: list[str]) -> dict[str, Any]:
    ours = score_lm_eval(path, scorer, shots=shots, limit=None, seed=SEED)
    expected = theirs(harness, path, num_fewshot=shots, fewshot_random_seed=SEED)
    assert set(ours) == {"results", "n-samples", "versions"}
    assert {key: expected[key] for key in ("n-samples", "versions")} == {
        key: ours[key] for key in ("n-samples", "versions")
    }
    figures = expected["results"]["mine"]
    assert {f"{metric},none" for metric in metrics} <= set(figures)
    agree(ours["results"]["mine"], figures)
    return figures


def test_multiple_choice_with_shots(scorer: Scorer, harness: Any, task: Callable[..., str]) -> None:
    path = task(MULTIPLE_CHOICE, train=QUESTIONS[::-1], test=QUESTIONS[:6])
    with_shots = compare(scorer, harness, path, 2, ["acc", "acc_norm", "brier_score"])
    without = compare(scorer, harness, path, 0, ["acc", "acc_norm", "brier_score"])
    assert with_shots["brier_score,none"] != without["brier_score,none"]


def test_observers_get_the_events_of_a_harness_task(
    folder: Path, task: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    monkeypatch.setitem(installed_plugins().observers, "tensorboard", events.append)
    path = task(MULTIPLE_CHOICE, train=QUESTIONS, test=QUESTIONS[:6])
    scores, found = score(str(folder), f"lm-eval:{path}", output=tmp_path / "scores")
    assert [event.kind for event in events] == ["run_started", "evaluated", "run_ended"]
    assert events[0].values["suite"] == f"lm-eval:{path}"
    assert events[1].values == {"task": "mine", **scores.tasks[0].values()}
    assert events[2].artifacts == (found / "scores.json",)


def test_loglikelihood(scorer: Scorer, harness: Any, task: Callable[..., str]) -> None:
    path = task(LOGLIKELIHOOD, test=[{"text": text.strip()} for text in TEXTS[1:]])
    compare(scorer, harness, path, 0, ["perplexity", "acc"])


def test_rolling_texts_longer_than_the_window(scorer: Scorer, harness: Any, task: Callable[..., str]) -> None:
    path = task(ROLLING, test=[{"text": text} for text in [*TEXTS, TEXTS[-1] * 3]])
    assert len(scorer.tokenizer(TEXTS[-1] * 3)["input_ids"]) > 2 * scorer.tokenization.max_length
    compare(scorer, harness, path, 0, ["word_perplexity", "byte_perplexity", "bits_per_byte"])


def test_generation(scorer: Scorer, harness: Any, task: Callable[..., str]) -> None:
    contexts = [*TEXTS[1:], *CHOICES, *"abcdefghijk", "never came", "so late,"]
    asked = [SimpleNamespace(args=(context, GENERATE["generation_kwargs"])) for context in contexts]
    written = harness.generate_until(asked, disable_tqdm=True)
    assert HarnessModel(scorer, print).generate_until(asked) == written
    endless = [SimpleNamespace(args=(context, {"until": [], "max_gen_toks": 12})) for context in contexts]
    assert sum(text != whole for text, whole in zip(written, harness.generate_until(endless), strict=True)) > 5
    right = [{"question": context, "answer": text} for context, text in zip(contexts, written, strict=True) if text]
    wrong = [{"question": context, "answer": "never"} for context in SUBJECTS]
    figures = compare(scorer, harness, task(GENERATE, test=right + wrong), 0, ["exact_match", "chrf"])
    assert 0 < figures["exact_match,none"] < 1


@pytest.mark.parametrize(
    ("options", "tokens", "stop"),
    [
        ({}, 256, ()),
        ({"until": "!"}, 256, ("!",)),
        ({"until": ["!", ""], "max_gen_toks": 5}, 5, ("!",)),
        ({"until": [], "max_new_tokens": 6, "temperature": 0.0}, 6, ()),
        ({"do_sample": False, "temperature": 0.7, "top_p": 0.95, "num_beams": 1}, 256, ()),
    ],
    ids=str,
)
def test_what_a_task_asks_to_be_written(
    options: dict[str, Any], tokens: int, stop: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, scorer: Scorer
) -> None:
    asked: list[Any] = []

    def keep(requests: list[Any]) -> Any:
        asked.extend(requests)
        return SimpleNamespace(answers=["" for _ in requests], notes=())

    monkeypatch.setattr(scorer, "answer", keep)
    HarnessModel(scorer, print).generate_until([SimpleNamespace(args=("The soup", options))])
    assert [(request.context, request.stop, request.max_tokens) for request in asked] == [("The soup", stop, tokens)]


@pytest.mark.parametrize(
    "options", [{"do_sample": True}, {"temperature": 0.7}, {"num_beams": 4}, {"repetition_penalty": 1.2}], ids=str
)
def test_what_is_not_greedy_is_refused(scorer: Scorer, options: dict[str, Any]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(UsageError, match=f"it cannot follow {name}={value}"):
        HarnessModel(scorer, print).generate_until([SimpleNamespace(args=("The soup", {"until": ["."], **options}))])


def test_a_text_without_tokens_has_no_likelihood_to_lose(scorer: Scorer, harness: Any) -> None:
    asked = [SimpleNamespace(args=(text,)) for text in ("", "The soup was cold.", "")]
    found = HarnessModel(scorer, print).loglikelihood_rolling(asked)
    assert found == pytest.approx(harness.loglikelihood_rolling(asked, disable_tqdm=True), rel=1e-6)
    assert found[0] == found[2] == 0.0


def test_chats_read_as_with_its_own_model(folder: Path, scorer: Scorer, harness: Any, monkeypatch: Any) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "<{{ m.role }}>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    model = HarnessModel(scorer, print)
    assert model.chat_template(False) is None
    with pytest.raises(ModelError, match="no chat template"):
        model.chat_template(True)
    for tokenizer in (scorer.tokenizer, harness.tokenizer):
        monkeypatch.setattr(tokenizer, "chat_template", template)
    assert model.chat_template(True) == harness.chat_template(True) == template
    chat = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "The soup?"},
        {"role": "assistant", "content": "It was"},
    ]
    assert model.apply_chat_template(chat[:2]) == "<user>The soup?</s><assistant>"
    for some, goes_on in ((chat[:2], True), (chat, False)):
        assert model.apply_chat_template(some, goes_on) == harness.apply_chat_template(some, goes_on)
    assert model.tokenizer_name == harness.tokenizer_name
    monkeypatch.setattr(
        scorer.tokenizer, "chat_template", {"default": template, "loud": "{{ messages[0].content|upper }}"}
    )
    assert model.chat_template(True) == template
    assert model.chat_template("loud") == "{{ messages[0].content|upper }}"
    assert model.apply_chat_template(chat[1:2]) == "THE SOUP?"
    with pytest.raises(UsageError, match="has no template of this name"):
        model.chat_template("quiet")


@pytest.mark.usefixtures("few_tasks")
def test_an_unknown_task_is_reported_with_the_nearest(scorer: Scorer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no task 'helaswag'") as caught:
        score_lm_eval("helaswag", scorer, shots=None, limit=1, seed=0)
    assert caught.value.hint == "Did you mean hellaswag?"
    with pytest.raises(UsageError, match="there is no such file"):
        score_lm_eval(str(tmp_path / "none.yaml"), scorer, shots=None, limit=1, seed=0)


def test_data_that_is_not_there_is_an_error_of_the_data(scorer: Scorer, task: Callable[..., str]) -> None:
    path = task(ROLLING, test=[{"text": "The soup"}])
    Path(path).with_name("test.jsonl").unlink()
    with pytest.raises(DataError, match="lm-evaluation-harness: "):
        score_lm_eval(path, scorer, shots=0, limit=None, seed=0)


def test_what_our_engine_raises_goes_through(scorer: Scorer, task: Callable[..., str]) -> None:
    path = task({**LOGLIKELIHOOD, "doc_to_target": "text"}, test=[{"text": "The soup. " * 200}])
    with pytest.raises(DataError, match="does not fit the model's window"):
        score_lm_eval(path, scorer, shots=0, limit=None, seed=0)


def test_another_version_is_reported(scorer: Scorer, task: Callable[..., str], monkeypatch: Any) -> None:
    from gpt_tasks.scoring import lm_eval as bridge

    monkeypatch.setattr(bridge, "VERSION", "0.0.1")
    said: list[str] = []
    path = task(ROLLING, test=[{"text": "The soup"}, {"text": "The train"}])
    found = score_lm_eval(path, scorer, shots=0, limit=1, seed=0, say=said.append)
    assert "checked against 0.0.1" in said[0]
    assert found["n-samples"] == {"mine": {"original": 2, "effective": 1}}
    assert found["versions"] == {"mine": 3}


def test_without_the_package_the_way_out_is_reported() -> None:
    code = """
import sys
sys.modules["lm_eval"] = None
from gpt_tasks.errors import UsageError
try:
    import gpt_tasks.scoring.lm_eval
except UsageError as error:
    print(error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == 'pip install "gpt-tasks[lm-eval]"\n'


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, few_tasks: None) -> Callable[..., int]:
    """Run a command in this process."""
    monkeypatch.setattr(sys, "argv", ["gpt-tasks"])
    # In other tests, its log would be written to what pytest has captured here.
    monkeypatch.setattr("lm_eval.utils._LOGGING_CONFIGURED", True)
    return lambda *arguments: main.run([str(argument) for argument in arguments])


def test_its_own_command_takes_our_model(
    cli: Callable[..., int], folder: Path, harness: Any, task: Callable[..., str], tmp_path: Path, capsys: Any
) -> None:
    path = task(MULTIPLE_CHOICE, train=QUESTIONS[::-1], test=QUESTIONS[:6])
    arguments = ["--tasks", path, "--num_fewshot", 2, "--seed", SEED, "--output_path", tmp_path / "results.json"]
    code = cli("lm-eval", "run", "--model", "gpt-tasks", "--model_args", f"pretrained={folder},device=cpu", *arguments)
    assert code == 0
    (file,) = tmp_path.glob("results*.json")
    found = json.loads(file.read_text(encoding="utf-8"))
    expected = theirs(harness, path, num_fewshot=2, fewshot_random_seed=SEED)["results"]["mine"]
    agree(found["results"]["mine"], expected)
    assert "brier_score" in capsys.readouterr().out
    assert sys.argv == ["gpt-tasks"]


def test_its_own_help_is_shown(cli: Callable[..., int], capsys: Any) -> None:
    assert cli("lm-eval", "run", "--help") == 0
    assert "--apply_chat_template" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "--bogus"], "unrecognized arguments: --bogus"),
        (["run", "--model", "gpt-tasks"], "UsageError: lm-evaluation-harness: No tasks specified"),
        (
            ["run", "--model", "gpt-tasks", "--model_args", "pretrained=none,prcision=bf16", "--tasks", "TASK"],
            "UsageError: --model_args prcision: Extra inputs are not permitted",
        ),
        (
            ["run", "--model", "gpt-tasks", "--model_args", "precision=bf16", "--tasks", "TASK"],
            "UsageError: --model_args pretrained: Field required",
        ),
        (
            ["run", "--model", "gpt-tasks", "--model_args", "pretrained=tinny", "--tasks", "TASK"],
            "UsageError: There is no backbone 'tinny'",
        ),
    ],
    ids=str,
)
def test_wrong_arguments_are_reported(
    cli: Callable[..., int], task: Callable[..., str], arguments: list[str], told: str, capsys: Any
) -> None:
    path = task(ROLLING, test=[{"text": "The soup"}])
    assert cli("lm-eval", *[path if argument == "TASK" else argument for argument in arguments]) == 2
    assert told in capsys.readouterr().err


def test_an_interval_of_the_harness_stays_where_its_figure_can_be() -> None:
    values = {"acc,none": 0.98, "acc_stderr,none": 0.0141, "ppl,none": 20.0, "ppl_stderr,none": 3.0}
    (task,) = harness_tasks({"results": {"quiz": values}, "n-samples": {"quiz": {"effective": 100}}})
    share, perplexity = task.metrics["acc"], task.metrics["ppl"]
    assert (share.value, share.stderr) == (0.98, 0.0141)
    assert 0.9 < share.low < share.value < share.high < 1
    assert (perplexity.low, perplexity.high) == pytest.approx((20 - 1.96 * 3, 20 + 1.96 * 3), abs=0.01)

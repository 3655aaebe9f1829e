"""Whether a model is asked by its chat template is decided on labelled rows, or said by the user."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import gpt_tasks
from gpt_tasks.errors import ModelError, UsageError
from gpt_tasks.evaluation.asking import Prompting, ZeroShotPredictor
from gpt_tasks.evaluation.templates import MOST_ROWS, choose_template
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.scoring.responder import Responses
from gpt_tasks.types import Continuation, Example, LogLikelihood

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = "{% for m in messages %}<u>{{ m['content'] }}</u>{% endfor %}<a>"
ROWS = [Example({"text": f"text {number}"}, "positive", f"rows:{number}") for number in range(150)]


class Responder:
    """Answers positive by its chat template, negative without it, or the other way round."""

    def __init__(self, *, is_better_by_template: bool = True, has_template: bool = True) -> None:
        self._better = is_better_by_template
        self.asked = 0
        self.tokenizer = SimpleNamespace(
            chat_template=TEMPLATE if has_template else None,
            get_chat_template=lambda: TEMPLATE,
            apply_chat_template=lambda messages, **_: f"<u>{messages[0]['content']}</u><a>",
        )

    def literal(self, example: Example) -> Example:
        return example

    def answer(self, requests: Sequence[Continuation], cache: Any = None) -> Responses:
        self.asked += len(requests)
        answers: list[Any] = []
        for request in requests:
            is_chat = request.context.endswith("<a>")
            # An answer in a chat does not begin with the space that would separate it.
            assert request.text.startswith(" ") is not is_chat
            likely = (request.text.strip() == "positive") is (is_chat is self._better)
            answers.append(LogLikelihood(math.log(0.9 if likely else 0.1), False))
        return Responses(answers, [0] * len(answers))


def chosen(
    responder: Any, rows: Sequence[Example] = ROWS, said: bool | None = None, name: str = "sentiment"
) -> tuple[Any, tuple[str, ...]]:
    task = installed_plugins().registry.tasks[name].zero_shot()
    prompting = Prompting(chat_template=said)
    return choose_template(
        prompting,
        task,
        responder,
        rows,
        lambda template: ZeroShotPredictor(task, responder, (), prompting, own=True, template=template),
        model="chatty",
    )


@pytest.mark.parametrize("better", [True, False])
def test_the_template_is_applied_where_it_answers_more_training_rows_right(better: bool) -> None:
    responder = Responder(is_better_by_template=better)
    template, (note,) = chosen(responder)
    assert (template is not None) is better
    right = ("50", "0") if better else ("0", "50")
    assert f"of 50 training rows {right[0]} are answered right with it, {right[1]} without it" in note
    assert note.startswith(f"The model's chat template is {'' if better else 'not '}applied")
    assert responder.asked == 2 * 2 * MOST_ROWS


def test_what_the_user_says_is_done_without_a_trial() -> None:
    responder = Responder()
    assert chosen(responder, said=False) == (None, ())
    template, notes = chosen(responder, said=True)
    assert template("So?") == "<u>So?</u><a>"
    assert (notes, responder.asked) == ((), 0)


def test_few_rows_and_written_answers_decide_nothing() -> None:
    written = [Example({"document": "a"}, "c", each.where) for each in ROWS]
    for rows, name in ((ROWS[:19], "sentiment"), ([], "sentiment"), (written, "summarization")):
        responder = Responder()
        template, (note,) = chosen(responder, rows, name=name)
        assert (template, responder.asked) == (None, 0)
        assert "is not applied; --chat-template applies it" in note


def test_rows_that_are_too_few_for_their_shots_decide_nothing() -> None:
    task = installed_plugins().registry.tasks["sentiment"].zero_shot()
    responder: Any = Responder()
    prompting = Prompting(shots=20)
    template, (note,) = choose_template(
        prompting,
        task,
        responder,
        ROWS[:20],
        lambda template: ZeroShotPredictor(task, responder, ROWS[:20], prompting, own=True, template=template),
        model="chatty",
    )
    assert template is None
    assert "is not applied; --chat-template applies it" in note


def test_the_task_is_known_before_the_model_is_opened() -> None:
    rows = [{"text": "a", "label": "positive"}, {"text": "b", "label": "negative"}]
    model = gpt_tasks.zero_shot("no-such-model", "sentiment", data=rows, shots=1)
    assert model.task.labels == ("negative", "positive")


def test_a_model_without_a_template() -> None:
    responder = Responder(has_template=False)
    assert chosen(responder) == (None, ())
    with pytest.raises(ModelError, match="--chat-template: the tokenizer of chatty has none"):
        chosen(responder, said=True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"shots": -1}, "shots: -1: "),
        ({"shots": "two"}, "shots: 'two': "),
        ({"sampler": "simlar"}, "sampler: 'simlar': input should be 'random', 'fixed' or 'similar'"),
        ({"question": 5}, "question: 5: "),
        ({"label_words": "abc"}, "label_words: 'abc': "),
        ({"label_words": {"positive": 5}}, "label_words: 5: "),
        ({"column": ["a"]}, "column: "),
        ({"model": None}, "model: None: this is no model"),
        ({"task": 5}, "task: 5: this is no task"),
    ],
)
def test_an_argument_of_the_wrong_type_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        gpt_tasks.zero_shot(**{"model": "tiny", "task": "sentiment", **given})
    assert caught.value.message.startswith(said)


def test_what_is_no_list_of_texts_is_refused(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    model = gpt_tasks.zero_shot("tiny", "sentiment")
    for texts in (b"abc", {"a"}, None, 5):
        with pytest.raises(UsageError, match="this is no text"):
            model.predict(texts)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"this is a table \(DataFrame\), not texts"):
        model.predict(pandas.DataFrame({"text": ["a"]}))
    for paths in ("runs", None):
        with pytest.raises(UsageError, match="this is no list of runs"):
            gpt_tasks.load_all(paths)  # type: ignore[arg-type]
    for path in (None, 5, b"runs"):
        with pytest.raises(UsageError, match="this is no path"):
            gpt_tasks.load(path)  # type: ignore[arg-type]

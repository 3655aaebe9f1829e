"""What a task makes of examples: what is asked about them, and their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.headed import HeadTask
from gpt_tasks.tasks.span import SpanTask
from gpt_tasks.tasks.text_to_text import TextToTextTask
from gpt_tasks.testing.checks import SkipError
from gpt_tasks.types import Continuation, Encoded, Example, Generation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONG = 100_000
"""The most tokens where nothing is to be cut."""


def encodings(
    task: Task, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int = LONG
) -> list[Encoded]:
    """Return the task's encodings of examples; of a question about a context, those of its windows."""
    if not isinstance(task, SpanTask):
        return task.encode(examples, tokenizer, max_length)
    from gpt_tasks.evaluation.spanned import windows_of

    windows = windows_of(task, examples, tokenizer, max_length, None)
    return [Encoded(windows.tokens(number)) for number in range(len(windows))]


def needs_training(task: Task) -> None:
    """Raise SkipError for a task that encodes nothing, because it trains nothing."""
    if not task.trains:
        raise SkipError("The task trains nothing, so that it encodes nothing.")


def asked_of_model(task: Any, example: Example, tokenizer: PreTrainedTokenizerBase) -> list[Any]:
    """Return all that a model is shown of an example before it answers, as requests and as tokens."""
    shown: list[Any] = []
    if hasattr(task, "ask"):
        for request in task.ask(example, ""):
            if isinstance(request, Generation):
                shown.append(request)
            elif isinstance(request, Continuation) and not isinstance(task, TextToTextTask):
                # What is compared are choices, or labels; one ending by itself is the right answer.
                shown.append(request if isinstance(task, HeadTask) else request.context)
    if not task.trains:
        return shown
    if isinstance(task, TextToTextTask):
        shown.append(task.prompt_tokens(example, tokenizer, LONG))
    else:
        shown += [each.sequences for each in encodings(task, [example], tokenizer)]
    return shown

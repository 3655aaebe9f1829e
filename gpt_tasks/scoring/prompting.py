"""Read the examples of a suite's tasks, and put them as requests: shots in front, a chat template around."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gpt_tasks.data.examples import check_encodable
from gpt_tasks.data.sources import ALL, open_source
from gpt_tasks.errors import DataError, ModelError
from gpt_tasks.extensions import Reader
from gpt_tasks.scoring.shots import Sampler, shots_for
from gpt_tasks.scoring.suites import ScoredTask
from gpt_tasks.tasks.base import SHOT_SEPARATOR
from gpt_tasks.types import Continuation, Example, Generation, Request, Rolling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ExampleRequests:
    """An example of a task, the value of the column it is grouped by, and its requests."""

    scored: ScoredTask
    example: Example
    group: str | None
    requests: list[Request]


def read_examples(
    scored: ScoredTask, schemes: Mapping[str, Reader], limit: int | None
) -> Iterator[tuple[Example, str | None]]:
    """Read the examples of a task, or of its part, each with its group. Raises DataError where a row cannot be used.

    `limit` is the number of examples, of each group where a column names it.
    """
    taken: Counter[str | None] = Counter()
    for example in _examples(scored, scored.source, scored.split, schemes):
        group = scored.group if scored.by is None else example.extra[scored.by]
        taken[group] += 1
        if limit is None or taken[group] <= limit:
            yield example, group
        elif scored.by is None:
            return


def _examples(scored: ScoredTask, source: str, split: str, schemes: Mapping[str, Reader]) -> Iterator[Example]:
    opened = open_source(source, schemes)
    name = ALL if ALL in opened.splits else split
    if name not in opened.splits:
        raise DataError(
            f"{opened.name}: there is no split '{split}'; there are {', '.join(opened.splits)}",
            "Name one of them in the suite (split:).",
        )
    first = next(opened.whole_rows(name), None) or next(opened.splits[name](), None)
    if first is None:
        raise DataError(f"{opened.name}: there are no rows ({name})", "Give data that holds some.")
    extra = () if scored.by is None else (scored.by,)
    if scored.by is not None and scored.by not in first.values:
        raise DataError(
            f"{opened.name}: there is no column '{scored.by}'; the columns are {', '.join(first.values)}",
            "Name one of them in the suite (by:).",
        )
    where = first.where.rpartition(":")[0] or opened.name
    columns = scored.task.fields(list(scored.fields.of(first).values), scored.columns, where)
    scored.task.check_question(list(columns))
    task = scored.task
    if task.target not in scored.fields:
        # An expression computes the place of the right answer.
        task = task.settled(lambda: map(scored.fields.of, opened.whole_rows(name)), columns, where)
    for row in opened.splits[name]():
        example = task.example(scored.fields.of(row), columns, extra)
        if example.target is not None:
            example = replace(example, target=task.normalize_label(example.target, example.where))
        yield check_encodable(example)


def ask(
    scored: ScoredTask,
    examples: Sequence[tuple[Example, str | None]],
    schemes: Mapping[str, Reader],
    sampler: Sampler,
    seed: int,
    template: Callable[[str], str] | None,
) -> Iterator[ExampleRequests]:
    """Yield each example of a task with its requests; `scored` is the part of the task with one source.

    Raises DataError where there are too few examples to draw the shots from.
    """
    every = [example for example, _ in examples]
    # lm-evaluation-harness also draws as if the pool were the scored split for tasks without a test split.
    own = (scored.source, scored.split) == (scored.shots_source, scored.shots_split) or scored.split != "test"
    pool: list[Example] = []
    if scored.shots:
        pool = list(_examples(scored, scored.shots_source, scored.shots_split, schemes))
    shots = shots_for(every, pool, scored.shots, own=own, sampler=sampler, seed=seed)
    for place, (example, group) in enumerate(examples):
        before = "".join(scored.task.fewshot_example(shot) + SHOT_SEPARATOR for shot in shots(place))
        requests = scored.task.requests(example, scored.task.instruction + before)
        yield ExampleRequests(scored, example, group, [_templated(request, template) for request in requests])


def _templated(request: Request, template: Callable[[str], str] | None) -> Request:
    """The context as one message of a chat, and the continuation as its answer, without the space between them."""
    if template is None or isinstance(request, Rolling):
        return request
    if isinstance(request, Generation):
        return replace(request, context=template(request.context))
    return Continuation(template(request.context), request.text.removeprefix(" "))


def chat_template(tokenizer: PreTrainedTokenizerBase | None, model: str) -> Callable[[str], str]:
    """Return a function that renders a text as a user's message by the chat template. Raises ModelError without one."""
    if tokenizer is None:
        raise ModelError(f"--chat-template: {model} has no tokenizer on this machine", "Leave the flag out.")
    if not tokenizer.chat_template:
        raise ModelError(f"--chat-template: the tokenizer of {model} has none", "Leave the flag out.")

    def template(content: str) -> str:
        messages = [{"role": "user", "content": content}]
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    return template

"""Read the examples of a suite's tasks, and put them as requests: shots in front, a chat template around."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from gpt_tasks.data.examples import check_encodable
from gpt_tasks.data.invalid import InvalidRows
from gpt_tasks.data.leaks import note_on_shots, note_on_training, notes_on
from gpt_tasks.data.sources import open_source
from gpt_tasks.data.split_names import ALL
from gpt_tasks.errors import DataError, ModelError, UsageError
from gpt_tasks.extensions import Reader
from gpt_tasks.scoring.shots import Sampler, shots_for
from gpt_tasks.scoring.suites import ScoredTask, suite_error
from gpt_tasks.tasks.base import SHOT_SEPARATOR, Task
from gpt_tasks.tasks.chat_template import rendering
from gpt_tasks.types import Continuation, Example, Generation, Request, Rolling, Row

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

Template: TypeAlias = Callable[[str], str]
"""A text as a user's message, by a chat template, up to where the answer begins."""

_LOOKED_AT = 200
# How the text before an answer ends: in an alphabet, in Chinese and Japanese, in Arabic.
_ASKS = ("?", ":", "\uff1f", "\uff1a", "\u061f")


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
    invalid = InvalidRows()
    for example in _examples(scored, scored.source, scored.split, schemes, invalid):
        group = scored.group if scored.by is None else example.extra[scored.by]
        taken[group] += 1
        if limit is None or taken[group] <= limit:
            yield example, group
        if scored.by is None and taken[group] == limit:
            break
    _refuse(invalid, scored)


def _refuse(invalid: InvalidRows, scored: ScoredTask) -> None:
    """Raise DataError where rows of a task cannot be used."""
    error = invalid.error(scored.name, way_out="")
    if error is not None:
        raise error


def _examples(
    scored: ScoredTask, source: str, split: str, schemes: Mapping[str, Reader], invalid: InvalidRows
) -> Iterator[Example]:
    """Yield the rows of a split that can be used as examples; the others are counted in `invalid`."""
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
    filled = next(_computed(scored, opened.whole_rows(name)), first).values
    _check_columns(scored, first, filled, opened.name)
    extra = tuple(name for name in (scored.by, scored.cluster) if name is not None and name in filled)
    where = first.where.rpartition(":")[0] or opened.name
    columns = scored.task.fields(list(filled), scored.columns, where)
    try:
        scored.task.check_question(list(columns))
    except UsageError as error:
        raise suite_error(error, scored.where) from error
    task = scored.task
    if task.target not in scored.fields:
        # An expression computes the place of the right answer.
        task = task.settled(lambda: _computed(scored, opened.whole_rows(name)), columns, where)
    for row in opened.splits[name]():
        invalid.rows += 1
        try:
            example = task.example(scored.fields.of(row), columns, extra)
            if example.target is not None:
                example = replace(example, target=task.normalize_label(example.target, example.where))
            check_encodable(example)
        except DataError as error:
            invalid.add(error)
        else:
            yield example


def _computed(scored: ScoredTask, rows: Iterable[Row]) -> Iterator[Row]:
    """Yield rows with their computed fields, without those of which one cannot be computed."""
    for row in rows:
        with suppress(DataError):
            yield scored.fields.of(row)


def _check_columns(scored: ScoredTask, row: Row, filled: Mapping[str, Any], source: str) -> None:
    """Raise DataError where a row has no column that groups or clusters are read from."""
    known = ", ".join(row.values)
    if scored.by is not None and scored.by not in row.values:
        raise DataError(
            f"{source}: there is no column '{scored.by}'; the columns are {known}",
            "Name one of them in the suite (by:).",
        )
    if scored.cluster is not None and scored.cluster not in (*filled, *scored.task.columns):
        raise DataError(
            f"{source}: there is no column '{scored.cluster}'; the columns are {known}",
            "Name one of them in the suite (cluster:), or with --cluster.",
        )


def ask(
    scored: ScoredTask,
    examples: Sequence[tuple[Example, str | None]],
    pool: ShotsPool,
    sampler: Sampler,
    seed: int,
    template: Template | None,
    literal: Callable[[Example], Example] = lambda example: example,
) -> Iterator[ExampleRequests]:
    """Yield each example of a task with its requests; `scored` is the part of the task with one source.

    `literal` keeps texts of the data from writing control tokens. Raises DataError where there are too few examples to
    draw the shots from.
    """
    # lm-evaluation-harness also draws as if the pool were the scored split for tasks without a test split.
    own = pool.own or scored.split != "test"
    shots = shots_for(pool.examples, scored.shots, own=own, sampler=sampler, seed=seed)
    for example, group in examples:
        before = "".join(scored.task.fewshot_example(literal(shot)) + SHOT_SEPARATOR for shot in shots(example))
        requests = requests_by(template, scored.task, literal(example), scored.task.instruction + before)
        yield ExampleRequests(scored, example, group, requests)


def requests_by(template: Template | None, task: Task, example: Example, context: str) -> list[Request]:
    """Return a task's requests for an example after `context`, put by a chat template where there is one."""
    requests = list(task.requests(example, context))
    if template is None:
        return requests
    delimiter = task.delimiter if are_compared(requests) else ""
    return [_templated(request, template, delimiter) for request in requests]


def are_compared(requests: Sequence[Request]) -> bool:
    """Return whether the likeliest of several continuations is the answer."""
    return len(requests) > 1 and all(isinstance(request, Continuation) for request in requests)


@dataclass(frozen=True)
class ShotsPool:
    """The examples that shots are drawn from, and whether they are the scored split itself."""

    examples: Sequence[Example] = ()
    own: bool = False


def shots_pool(scored: ScoredTask, schemes: Mapping[str, Reader]) -> ShotsPool:
    """Read the examples that shots are drawn from; none where there are no shots."""
    if not scored.shots:
        return ShotsPool()
    splits = open_source(scored.shots_source, schemes).splits
    split = scored.shots_split or ("train" if "train" in splits else scored.split)
    own = scored.source == scored.shots_source and (split == scored.split or ALL in splits)
    invalid = InvalidRows()
    pool = list(_examples(replace(scored, cluster=None), scored.shots_source, split, schemes, invalid))
    _refuse(invalid, scored)
    return ShotsPool(pool, own)


def notes_of(
    asked: Sequence[ExampleRequests],
    parts: Sequence[ScoredTask],
    pools: Sequence[ShotsPool],
    trained: np.ndarray | None,
    *,
    chat: bool,
) -> list[str]:
    """Return notes on each task's rows: those in training data, of the shots or of the run whose rows have the hashes
    `trained`, contradictions, equal choices; and on tasks that a chat template does not suit, if there is one.
    """
    notes = []
    for name in dict.fromkeys(part.name for part in parts):
        own = [each for each in asked if each.scored.name == name]
        examples = [each.example for each in own]
        others = [
            shot
            for part, pool in zip(parts, pools, strict=True)
            if part.name == name and not pool.own
            for shot in pool.examples
        ]
        found = [*note_on_training(examples, trained), *note_on_shots(examples, others), *notes_on(examples)]
        notes += [f"{name}: {note}" for note in [*found, *(_notes_on_template(own) if chat else ())]]
    return notes


def refuse_useless_template(
    parts: Sequence[ScoredTask], examples: Sequence[Sequence[tuple[Example, str | None]]], *, chat: bool
) -> None:
    """Raise UsageError for a chat template where all that is asked for are the likelihoods of whole texts."""
    firsts = [(part.task, some[0][0]) for part, some in zip(parts, examples, strict=True) if some]
    if chat and all(isinstance(each, Rolling) for task, example in firsts for each in task.requests(example, "")):
        raise UsageError("--chat-template has no effect: whole texts are scored without it", "Leave it out.")


def _notes_on_template(asked: Sequence[ExampleRequests]) -> list[str]:
    # As they are without the template: most contexts that are answered end with a question or a colon.
    requests = [request for each in asked[:_LOOKED_AT] for request in each.scored.task.requests(each.example, "")]
    if any(isinstance(request, Rolling) for request in requests):
        return ["Whole texts are scored without the chat template."]
    contexts = [request.context.rstrip() for request in requests if isinstance(request, Continuation)]
    if sum(context.endswith(_ASKS) for context in contexts) * 2 < len(contexts):
        return [
            "Its items continue a text, but in a chat template a model answers instead: the figures show little of "
            "what the model can do. Leave --chat-template out for this task."
        ]
    return []


def _templated(request: Request, template: Template, delimiter: str) -> Request:
    """The context as one message of a chat, and the continuation as its answer, without the delimiter between them.

    As by lm-evaluation-harness 0.4.13, that is for answers that are compared only: a single one keeps its first space.
    """
    if isinstance(request, Rolling):
        return request
    if isinstance(request, Generation):
        return replace(request, context=template(request.context))
    return Continuation(template(request.context), request.text.removeprefix(delimiter))


def chat_template(tokenizer: PreTrainedTokenizerBase | None, model: str) -> Template:
    """Return a function that renders a text as a user's message by the chat template. Raises ModelError without one."""
    if tokenizer is None:
        raise ModelError(f"--chat-template: {model} has no tokenizer on this machine", "Leave the flag out.")
    if not tokenizer.chat_template:
        raise ModelError(f"--chat-template: the tokenizer of {model} has none", "Leave the flag out.")

    def template(content: str) -> str:
        messages = [{"role": "user", "content": content}]
        with rendering(str(tokenizer.get_chat_template()), model):
            return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    return template

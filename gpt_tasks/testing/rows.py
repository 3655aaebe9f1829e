"""The few rows that checks work on: chosen of a task's samples, or made up where it has none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, zip_longest
from typing import Any

from gpt_tasks.data.sources import ALL, SPLITS, open_source
from gpt_tasks.errors import DataError
from gpt_tasks.extensions import SourceScheme
from gpt_tasks.tasks.base import Task, prompt_fields
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.tasks.cloze import ClozeTask
from gpt_tasks.tasks.dialogue import MESSAGES, DialogueTask
from gpt_tasks.tasks.headed import HeadTask
from gpt_tasks.tasks.language_modeling import TEXT
from gpt_tasks.tasks.multi_label import MultiLabelTask
from gpt_tasks.tasks.multiple_choice import ANSWER, CHOICES, MultipleChoiceTask
from gpt_tasks.tasks.regression import RegressionTask
from gpt_tasks.tasks.span import ANSWERS, IMPOSSIBLE, SpanTask
from gpt_tasks.tasks.span_answers import CONTEXT, QUESTION
from gpt_tasks.tasks.text_to_text import TextToTextTask
from gpt_tasks.tasks.turns import ASSISTANT, from_text, messages
from gpt_tasks.tasks.untrained import UntrainedTask
from gpt_tasks.types import Row

TRAINED = 4
"""So many rows are to be learned; validation and test get two each."""
_LEAST = TRAINED + 2
_MOST = TRAINED + 4
_READ = 200
_MADE_UP = (
    ("The soup was cold and the waiter never came back.", "soup"),
    ("She plays the cello as if nobody were listening.", "cello"),
    ("The train left ten minutes early without a word.", "train"),
    ("A warm and generous film about two brothers.", "film"),
    ("Nothing in this hotel was as it had been promised.", "hotel"),
    ("We walked along the river until the lamps were lit.", "river"),
    ("The museum keeps its best paintings in the cellar.", "museum"),
    ("My neighbour grows tomatoes on a very small balcony.", "tomatoes"),
)


def sample_rows(task: Task, schemes: Mapping[str, SourceScheme]) -> dict[str, list[Row]] | None:
    """Return the first rows of each split of a task's samples, None where it has none.

    Raises DataError where there are files without rows, or too few rows in all.
    """
    folder = task.samples()
    if folder is None:
        return None
    found = {}
    for split, read in open_source(folder, schemes).splits.items():
        found[split] = list(islice(read(), _READ))
        if not found[split]:
            raise DataError(f"The samples of '{task.name}' are empty: {folder} holds no row ({split})", _FILL)
    rows = sum(map(len, found.values()))
    if rows < _LEAST:
        raise DataError(f"The samples of '{task.name}' are {rows} rows, too few to be split", _FILL)
    return found


_FILL = "Write samples into train.jsonl, validation.jsonl and test.jsonl, one object a line."


def made_up_rows(task: Task) -> list[Row]:
    """Return rows as the task's family reads them, under the names of its columns."""
    return [Row(_made_up(task, number), f"made-up row {number + 1}") for number in range(_MOST)]


def few_rows(task: Task, samples: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Return short sample rows of different right answers: those to be learned first."""
    rows = [row for split in ("train", ALL, *SPLITS[1:]) for row in samples.get(split, ())]
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: len(_as_json(row.values))):
        groups.setdefault(_kind(task, row), []).append(row)
    turns = (row for some in zip_longest(*groups.values()) for row in some if row is not None)
    ordered = list(_distinct(turns))
    first, rest = ordered[:TRAINED], ordered[TRAINED:]
    # What is judged must be known of what was learned, where labels are the data's own.
    known = set().union(*(_labels(task, row) for row in first))
    rest.sort(key=lambda row: not _labels(task, row) <= known)
    return [*first, *rest[: _MOST - TRAINED]]


def retargeted(task: Task, row: Row, other: Row, columns: Mapping[str, str]) -> Row | None:
    """Return a row with another right answer, that of `other` where it can be; None where the task has none of its own.

    `columns` are those of `task.fields`.
    """
    values = dict(row.values)
    if isinstance(task, MultipleChoiceTask):
        example = task.example(row, columns)
        values[columns[ANSWER]] = (int(str(example.target)) + 1) % len(example.choices)
    elif isinstance(task, DialogueTask):
        turns = from_text(task.example(row, columns).inputs[MESSAGES])
        last = max(place for place, turn in enumerate(turns) if turn.role == ASSISTANT)
        said = [
            replace(turn, content="Nobody can say that.") if place == last else turn for place, turn in enumerate(turns)
        ]
        values[columns[MESSAGES]] = messages(said)
    else:
        targets = _target_fields(task)
        if not targets:
            return None
        values |= {columns[field]: other.values.get(columns[field]) for field in targets if field in columns}
    return replace(row, values=values)


def as_jsonl(rows: Sequence[Row]) -> str:
    """Return rows as lines of JSON."""
    return "".join(f"{_as_json(row.values)}\n" for row in rows)


def _target_fields(task: Task) -> list[str]:
    if isinstance(task, HeadTask):
        return [task.target]
    if isinstance(task, SpanTask):
        return [ANSWERS, IMPOSSIBLE]
    answer = task.answer if isinstance(task, TextToTextTask) else task.ending if isinstance(task, ClozeTask) else ""
    fields, asked = prompt_fields(answer), prompt_fields(task.prompt)
    # A prompt that reads every field of the answer gives the answer away: then it is those that are changed.
    return [field for field in fields if field not in asked] or fields


def _made_up(task: Task, number: int) -> dict[str, Any]:
    text, word = _MADE_UP[number % len(_MADE_UP)]
    column = dict(task.columns)
    if isinstance(task, DialogueTask):
        turns = [("user", f"What is this about? {text}"), ("assistant", f"It is about a {word}.")]
        return {column.get(MESSAGES, MESSAGES): [{"role": role, "content": said} for role, said in turns]}
    if isinstance(task, SpanTask):
        answers = {"text": [word], "answer_start": [text.index(word)]}
        values: dict[str, Any] = {QUESTION: f"What is number {number} about?", CONTEXT: text, ANSWERS: answers}
        return {column.get(field, field): value for field, value in values.items()}
    named = task.reads() if isinstance(task, UntrainedTask) else prompt_fields(task.prompt)
    if isinstance(task, MultipleChoiceTask):
        others = [_MADE_UP[(number + step) % len(_MADE_UP)][1] for step in (1, 2)]
        choices = [*others, word] if number % 2 else [word, *others]
        values = {CHOICES: choices, ANSWER: choices.index(word)}
        texts = [field for field in named if field not in values]
        values = {**dict.fromkeys(texts, text), **values}
    else:
        targets = _target_fields(task)
        texts = [field for field in named if field not in targets]
        values = {**dict.fromkeys(texts, text), **{field: _made_up_target(task, number, word) for field in targets}}
    return {column.get(field, field): value for field, value in values.items()} or {TEXT: text}


def _made_up_target(task: Task, number: int, word: str) -> Any:
    if isinstance(task, ClassificationTask | MultiLabelTask):
        labels = task.labels or ("first", "second")
        label = labels[number % TRAINED % len(labels)]
        return [label] if isinstance(task, MultiLabelTask) else label
    return float(number % TRAINED) if isinstance(task, RegressionTask) else word


def _kind(task: Task, row: Row) -> str:
    """Return by what rows are to differ: the right answer's label or number, or whether there is one."""
    if isinstance(task, SpanTask):
        value = row.values.get(task.columns.get(ANSWERS, ANSWERS))
        return str(bool(value.get("text") if isinstance(value, Mapping) else value))
    return _as_json(row.values.get(task.target_column({}))) if isinstance(task, HeadTask) else ""


def _labels(task: Task, row: Row) -> set[str]:
    if isinstance(task, ClassificationTask):
        return {str(row.values.get(task.target_column({})))}
    if not isinstance(task, MultiLabelTask):
        return set()
    value = row.values.get(task.target_column({}))
    return set(map(str, value.split("|") if isinstance(value, str) else value or ()))


def _distinct(rows: Iterator[Row]) -> Iterator[Row]:
    seen = set()
    for row in rows:
        key = _as_json(row.values)
        if key not in seen:
            seen.add(key)
            yield row


def _as_json(value: Any) -> str:
    return json.dumps(dict(value) if isinstance(value, Mapping) else value, ensure_ascii=False, default=str)

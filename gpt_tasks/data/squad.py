"""Read SQuAD's own form: one JSON document of articles, their paragraphs, and the questions about each of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from gpt_tasks.errors import DataError
from gpt_tasks.types import Row

_FORM = 'SQuAD\'s form is {"data": [{"paragraphs": [{"context": "...", "qas": [{"question": "..."}]}]}]}.'
_KINDS = {dict: "an object", list: "a list", str: "a text"}

_Kind = TypeVar("_Kind", dict[str, Any], list[Any], str)


def read_questions(document: Any, name: str) -> Iterator[Row]:
    """Yield a row for every question of a document in SQuAD's form, from a file called `name`.

    Its columns are `title`, `context`, `question` and what else the question has: `id`, `answers` (a list of
    objects), `is_impossible`. A row is named by file, article and question. Raises DataError where the form is another.
    """
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        raise DataError(
            f"{name}: a .json file is read where it has the form of SQuAD, and this one has not",
            "Give other rows as .jsonl, one JSON object per line.",
        )
    for number, article in enumerate(document["data"], start=1):
        place = f"{name}:article {number}"
        title = article.get("title") if isinstance(article, dict) else None
        title = title if isinstance(title, str) and title else f"article {number}"
        for paragraph in _member(article, "paragraphs", list, place):
            context = _member(paragraph, "context", str, place)
            for question in _member(paragraph, "qas", list, place):
                _member(question, "question", str, place)
                where = f"{name}:{title}:{question.get('id', question['question'][:60])}"
                yield Row({"title": title, "context": context, **question}, where)


def _member(owner: Any, key: str, kind: type[_Kind], where: str) -> _Kind:
    if not isinstance(owner, Mapping):
        raise DataError(f"{where}: this is a {type(owner).__name__}, not an object: {str(owner)[:60]}", _FORM)
    value = owner.get(key)
    if not isinstance(value, kind):
        found = "is missing" if value is None else f"is not {_KINDS[kind]}: {str(value)[:60]}"
        raise DataError(f"{where}: '{key}' {found}", _FORM)
    return value

"""Read SQuAD's own form: one JSON document of articles, their paragraphs, and the questions about each of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpt_tasks.data.invalid import BrokenRow
from gpt_tasks.errors import DataError
from gpt_tasks.types import Row

_FORM = 'SQuAD\'s form is {"data": [{"paragraphs": [{"context": "...", "qas": [{"question": "..."}]}]}]}.'
_KINDS: dict[type, str] = {list: "a list", str: "a text"}


def read_questions(document: Any, name: str) -> Iterator[Row]:
    """Yield a row for every question of a document in SQuAD's form, from a file called `name`.

    Its columns are `title`, `context`, `question` and what else the question has: `id`, `answers` (a list of
    objects), `is_impossible`. A row is named by file, article and question. An article, a paragraph or a question of
    another form is a BrokenRow. Raises DataError where the document has another form.
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
        for paragraph in _members(article, "paragraphs", place):
            if isinstance(paragraph, BrokenRow):
                yield paragraph
                continue
            context = paragraph.get("context") if isinstance(paragraph, Mapping) else None
            for question in _members(paragraph, "qas", place, needs="context"):
                problem = question if isinstance(question, BrokenRow) else _problem(question, "question", str, place)
                if problem:
                    yield problem
                    continue
                where = f"{name}:{title}:{question.get('id', question['question'][:60])}"
                yield Row({"title": title, "context": context, **question}, where)


def _members(owner: Any, key: str, where: str, needs: str | None = None) -> list[Any]:
    """Return the list that is in a member of an object; where there is none, or no text in `needs`, a BrokenRow."""
    problem = (_problem(owner, needs, str, where) if needs else None) or _problem(owner, key, list, where)
    return [problem] if problem else owner[key]


def _problem(owner: Any, key: str, kind: type, where: str) -> BrokenRow | None:
    if not isinstance(owner, Mapping):
        said = f"{where}: this is a {type(owner).__name__}, not an object: {str(owner)[:60]}"
        return BrokenRow(where, said, _FORM)
    value = owner.get(key)
    if isinstance(value, kind):
        return None
    found = "is missing" if value is None else f"is not {_KINDS[kind]}: {str(value)[:60]}"
    return BrokenRow(where, f"{where}: '{key}' {found}", _FORM)

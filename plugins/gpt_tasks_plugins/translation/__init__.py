"""The same in another language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from gpt_tasks import (
    Example,
    Metric,
    Row,
    TaskOptions,
    TextToTextOptions,
    TextToTextTask,
    UsageError,
    bleu,
    chrf,
    from_cell,
    hookimpl,
)
from gpt_tasks_plugins.translation.languages import LANGUAGES

SOURCE, TARGET = "source", "target"
# The column in which data sets of translations hold an object of texts by language.
NESTED = "translation"


class TranslationOptions(TextToTextOptions):
    """The options of translation."""

    source_language: str | None = Field(None, description="The code of the language to translate from, as in en.")
    target_language: str | None = Field(None, description="The code of the language to translate to, as in de.")

    @field_validator("source_language", "target_language")
    @classmethod
    def _is_known(cls, code: str | None) -> str | None:
        if code is not None and code not in LANGUAGES:
            raise PydanticCustomError("language", "there is no language '{code}'", {"code": code})
        return code


class Translation(TextToTextTask):
    """Translate a text into another language. Columns are named by the languages' codes, or source and target.

    The codes may also be within a column `translation`, as in {"translation": {"en": "...", "de": "..."}}.
    """

    name = "translation"
    source_language = "en"
    target_language = "de"
    prompt = "English: {source}\nGerman:"
    answer = " {target}"
    metrics = ("bleu", "chrf")
    best_metric = "chrf"
    Options: ClassVar[type[TaskOptions]] = TranslationOptions

    @property
    def own_metrics(self) -> Sequence[Metric]:  # type: ignore[override]
        """BLEU with the words of the target language, and chrF."""
        return bleu(self.target_language), chrf()

    def configured(self, options: TaskOptions) -> Self:
        """Return this task with its options applied; the prompt names the languages, unless it is given.

        Raises UsageError where both are the same.
        """
        task = super().configured(options)
        if task.source_language == task.target_language:
            raise UsageError(
                f"Both languages are '{task.source_language}'", "Give --source-language and --target-language."
            )
        if getattr(options, "prompt", None) is None:
            names = LANGUAGES[task.source_language], LANGUAGES[task.target_language]
            task.prompt = f"{names[0]}: {{source}}\n{names[1]}:"
        return task

    def fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the columns: those called by the languages' codes where both are there."""
        codes = {SOURCE: self.source_language, TARGET: self.target_language}
        if NESTED in available and not mapping:
            available = [*available, *codes.values()]
        if all(code in available for code in codes.values()):
            mapping = {**{field: code for field, code in codes.items() if field in self.field_names()}, **mapping}
        return super().fields(available, mapping, where)

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row, also one whose texts are within one column."""
        texts = from_cell(row.values.get(NESTED))
        if isinstance(texts, Mapping):
            row = Row({**texts, **row.values}, row.where)
        return super().example(row, columns, extra)

    def answer_columns(self) -> list[str]:
        """Return the columns that may hold the translation."""
        return [*super().answer_columns(), self.target_language]

    def samples(self) -> Path | None:
        """The folder of the pairs of these two languages, whichever is the source."""
        folder = super().samples()
        if folder is None:
            return None
        pair = self.source_language, self.target_language
        found = [folder / "-".join(order) for order in (pair, pair[::-1])]
        return next((each for each in found if each.is_dir()), None)

    def baselines(self, example: Example) -> Mapping[str, str]:
        """The text, unchanged."""
        return {"copy": example.inputs[SOURCE]}


@hookimpl
def register_tasks() -> list[Translation]:
    """Register the task."""
    return [Translation()]

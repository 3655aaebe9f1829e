"""A model that is prompted without training, as an answering model: its data, its few-shot examples, its baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gpt_tasks.errors import UsageError
from gpt_tasks.evaluation.answering import AnsweringModel
from gpt_tasks.evaluation.asking import Prompting, ZeroShotPredictor
from gpt_tasks.evaluation.report import Report
from gpt_tasks.evaluation.templates import choose_template
from gpt_tasks.files import machine_errors, temporary_folder
from gpt_tasks.plugins import Plugins, installed_plugins
from gpt_tasks.shown import tell
from gpt_tasks.tasks.base import Task
from gpt_tasks.threads import loaded_once
from gpt_tasks.types import Example

if TYPE_CHECKING:
    from gpt_tasks.data.examples import Examples
    from gpt_tasks.data.sources import Source
    from gpt_tasks.data.stream import Stream
    from gpt_tasks.scoring.cache import AnswerCache
    from gpt_tasks.scoring.prompting import Template
    from gpt_tasks.scoring.responder import RegisteredResponder
    from gpt_tasks.scoring.scorer import Scorer


class ZeroShotModel(AnsweringModel):
    """A model that answers examples of a task without training; see `zero_shot`.

    An evaluation with an output folder writes each response there at once, and a stopped one continues from them.
    Threads are answered one after the other. A pickled model is its name and how it is prompted.
    """

    unfinished = "answers.jsonl"

    def __init__(
        self,
        model: str,
        task: Task,
        plugins: Plugins,
        prompting: Prompting,
        where: Mapping[str, Any],
    ) -> None:
        self.model = model
        self.plugins = plugins
        self.prompting = prompting
        self._task = task
        self._where = where

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.model, self._task, self.prompting, self._where)

    def __repr__(self) -> str:
        return f"ZeroShotModel({self.model!r}, task={self._task.name!r})"

    @loaded_once
    def responder(self) -> Scorer | RegisteredResponder:
        """What answers requests."""
        from gpt_tasks.scoring.responder import open_responder

        return open_responder(self.model, **self._where)

    @property
    def task(self) -> Task:
        """The task, fitted to the few-shot examples where there are some."""
        return self._fitted[0]

    @property
    def predictor(self) -> ZeroShotPredictor:
        """What answers texts, after few-shot examples that are drawn from the beginning: each call gets the same."""
        return self._predictor(*self._fitted, self._chosen_template, own=False)

    @cached_property
    def _chosen_template(self) -> Template | None:
        """The chat template that texts are asked by, if any: decided when the model is first needed, and said."""
        task, pool = self._fitted
        template, notes = self._template(task, pool, pool)
        for note in notes if pool else ():
            tell(note)
        return template

    @cached_property
    def _fitted(self) -> tuple[Task, list[Example]]:
        """The task, and the few-shot examples to draw from, of the data that was named."""
        data = self.prompting.data
        if self.prompting.shots and data is None:
            raise UsageError(f"--shots {self.prompting.shots}: there is nothing to draw from", "Give labelled --data.")
        task, pool = (self._task, list[Example]()) if data is None else self._fitted_pool(data)
        if "labels" in task.Options.model_fields and not task.labels:
            raise UsageError(
                f"Task '{task.name}' declares no labels to choose from",
                "Name them with --option labels=A --option labels=B, or give labelled --data.",
            )
        return task, pool

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Turn what the machine refuses, and what a plugin raises, into errors that name them."""
        with machine_errors(), self.plugins.attribute_errors():
            yield

    def configuration(self) -> dict[str, Any]:
        """Return the model, its task, and how it is prompted."""
        data = self._drawn_from or None
        prompting = self.prompting.model_dump(exclude={"data"})
        return {"model": self.model, "task": self._task.name, **prompting, "data": data, **self._where}

    def columns(self, source: Source, split: str, given: Mapping[str, str]) -> dict[str, str]:
        """Return the columns of fields: those that are given."""
        return {**self.prompting.column, **given}

    def evaluate_source(
        self,
        source: Source,
        split: str,
        columns: Mapping[str, str],
        by: str | None,
        metrics: Sequence[str],
        output: Path | None,
        scratch: Path,
        skip_invalid: bool = False,
        cluster: str | None = None,
    ) -> Report:
        """Evaluate on a split of a source. Few-shot examples and baselines come from the data that was named, or from
        the source's train split, if there is one.

        Where there is none, few-shot examples come from what is evaluated, never an example itself.
        """
        from gpt_tasks.data.examples import store_examples
        from gpt_tasks.data.invalid import refuse_invalid
        from gpt_tasks.data.leaks import note_on_shots, note_on_training, notes_on
        from gpt_tasks.data.oddities import alike_labels, label_counts, merged_labels
        from gpt_tasks.data.stream import fitted, stream_examples
        from gpt_tasks.evaluation.evaluate import evaluate

        notes = list(source.notes)

        def read(name: str, cluster: str | None = None) -> _Labelled:
            stream = stream_examples(
                self._task,
                source,
                name,
                columns=columns,
                by=by,
                cluster=cluster,
                need_labels=True,
                skip_invalid=skip_invalid,
            )
            return _Labelled(stream, store_examples(stream.examples(), scratch))

        found = [read(split, cluster)]
        if self.prompting.data is not None:
            drawn_from, labelled = self._labelled(self.prompting.data, scratch)
            found.append(labelled)
            notes += drawn_from.notes
        elif "train" in source.splits and split != "train":
            found.append(read("train"))
        streams = [stream for stream, _ in found]
        task = fitted(self._task, [examples for _, examples in found], source.name, streams)
        notes += merged_labels(task, {split: found[0].examples}) if task.normalize_labels else []
        normalized = [stream.normalized(task, examples) for stream, examples in found]
        refuse_invalid(stream.error for stream in streams)
        notes += (note for stream in streams for note in stream.notes())
        examples, train = normalized[0], normalized[1] if len(normalized) > 1 else None
        notes += alike_labels(task, label_counts(task, examples))
        task.check_question(list(examples.fields))
        if train is None:
            shots = ", and shots come from what is evaluated" if self.prompting.shots else ""
            notes.append(f"There is no train split: no baselines are fitted{shots}.")
        else:
            notes += note_on_shots(examples, train)
        notes += notes_on(examples)
        notes += note_on_training(examples, self.responder.trained_rows)
        pool = examples if train is None else train
        template, said = self._template(task, pool, [] if train is None else train)
        notes += said
        predictor = self._predictor(task, pool, template, own=train is None)
        predictor.fit_baselines(self.plugins, train)
        names = [*task.zero_shot_metrics, *metrics]
        with nullcontext() if output is None else self._cache(output) as predictor.cache:
            return evaluate(
                predictor,
                examples,
                split=split,
                metrics=self.plugins.registry.metrics_of(task, names),
                by=by,
                cluster=cluster,
                asked=self._asked(template, "train" if train is not None else split),
                notes=notes,
                output=output,
            )

    def _asked(self, template: Template | None, pool: str) -> dict[str, Any]:
        """Return which model is asked, and how; `pool` is the split that shots are drawn from."""
        prompting = self.prompting
        shots = {"shots_sampler": prompting.sampler, "seed": prompting.seed, "shots_from": self._drawn_from or pool}
        return {
            "model": self.model,
            "fingerprint": self.responder.identity["model"],
            "precision": self._where["precision"],
            "shots": prompting.shots,
            **(shots if prompting.shots else {}),
            "calibrated": prompting.calibrated,
            "chat_template": template is not None,
            "question": prompting.question,
            "label_words": prompting.label_words,
            "options": prompting.options,
        }

    @property
    def _drawn_from(self) -> str:
        """The data that were named to draw few-shot examples from, or nothing."""
        from gpt_tasks.data.in_memory import described

        return "" if self.prompting.data is None else described(self.prompting.data)

    def _cache(self, output: Path) -> AnswerCache:
        from gpt_tasks.scoring.cache import AnswerCache

        output.mkdir(parents=True, exist_ok=True)
        return AnswerCache(output / self.unfinished, self.responder.identity, tell)

    def _predictor(
        self, task: Task, pool: Examples | Sequence[Example], template: Template | None, *, own: bool
    ) -> ZeroShotPredictor:
        drawn_from = list(pool) if self.prompting.shots else []
        return ZeroShotPredictor(task, self.responder, drawn_from, self.prompting, own, template)

    def _template(
        self, task: Task, pool: Examples | Sequence[Example], labelled: Examples | Sequence[Example]
    ) -> tuple[Template | None, tuple[str, ...]]:
        """Decide whether the model is asked by its chat template; see `choose_template`."""
        tried = partial(self._predictor, task, pool, own=True)
        return choose_template(self.prompting, task, self.responder, labelled, tried, model=self.model)

    def _fitted_pool(self, data: Any) -> tuple[Task, list[Example]]:
        """Return the task fitted to the data that shots are drawn from, and those examples; say how they were read."""
        from gpt_tasks.data.stream import fitted

        with temporary_folder() as scratch:
            source, (stream, examples) = self._labelled(data, scratch)
            task = fitted(self._task, [examples], source.name, [stream])
            pool = list(stream.normalized(task, examples))
        stream.check()
        for note in (*source.notes, *stream.notes()):
            tell(note)
        return task, pool

    def _labelled(self, data: Any, scratch: Path) -> tuple[Source, _Labelled]:
        """Open the data that shots are drawn from, and read its train split, or what it has instead."""
        from gpt_tasks.data.examples import store_examples
        from gpt_tasks.data.sources import open_source
        from gpt_tasks.data.split_names import ALL
        from gpt_tasks.data.stream import stream_examples

        source = open_source(data, self.plugins.registry.sources, self.prompting.encoding)
        split = next((name for name in ("train", ALL) if name in source.splits), next(iter(source.splits)))
        stream = stream_examples(
            self._task,
            source,
            split,
            columns=self.prompting.column,
            need_labels=True,
            skip_invalid=self.prompting.skip_invalid,
        )
        return source, _Labelled(stream, store_examples(stream.examples(), scratch))


def _reopened(model: str, task: Task, *settings: Any) -> ZeroShotModel:
    return ZeroShotModel(model, task, installed_plugins(), *settings)


class _Labelled(NamedTuple):
    """Examples with right answers, and the stream that they were read from."""

    stream: Stream
    examples: Examples

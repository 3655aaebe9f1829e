"""A model that is prompted without training: zero-shot, or after few-shot examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gpt_tasks.errors import UsageError
from gpt_tasks.evaluation.answering import AnsweringModel
from gpt_tasks.evaluation.asking import Shots, ZeroShotPredictor
from gpt_tasks.evaluation.report import Report
from gpt_tasks.files import machine_errors, temporary_folder
from gpt_tasks.plugins import Plugins, installed_plugins
from gpt_tasks.scoring.shots import DEFAULT_SEED, Sampler
from gpt_tasks.shown import tell
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.options import refuse_useless_options, validated
from gpt_tasks.threads import loaded_once
from gpt_tasks.types import Example

if TYPE_CHECKING:
    from gpt_tasks.data.examples import Examples
    from gpt_tasks.data.sources import Source
    from gpt_tasks.data.stream import Stream
    from gpt_tasks.scoring.cache import AnswerCache
    from gpt_tasks.scoring.engine import EngineName
    from gpt_tasks.scoring.responder import RegisteredResponder
    from gpt_tasks.scoring.scorer import Scorer


def zero_shot(
    model: str,
    task: str | Task,
    *,
    shots: int = 0,
    data: Any = None,
    sampler: Sampler = "random",
    seed: int = DEFAULT_SEED,
    calibrated: bool = False,
    question: str | None = None,
    label_words: Mapping[str, str] | None = None,
    column: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    device: str = "auto",
    precision: str = "float32",
    engine: EngineName = "trie",
    verify: bool = True,
    encoding: str | None = None,
    skip_invalid: bool = False,
) -> ZeroShotModel:
    """Return a model that answers examples of a task without training.

    `model` is a preset, a folder, a hub id or a run, or a registered responder's as in `openai:NAME`.

    `shots` few-shot examples come before each, drawn from `data` (a path, a data frame, a list of mappings), or from
    what is evaluated where that has a train split. Text files of `data` are in `encoding`, where it is given; with
    `skip_invalid` rows of it that cannot be used are left out. `options` are the task's own; `question` and
    `label_words` say how labels are asked for, and `calibrated` divides each label's probability by the one that it has
    after inputs without content (contextual calibration, Zhao et al. 2021). Raises UsageError for a task that cannot be
    evaluated zero-shot. The model is loaded when it is first used; that of a run must be the one that was trained,
    unless `verify` is False.
    """
    plugins = installed_plugins()
    chosen = (plugins.registry.tasks[task] if isinstance(task, str) else task).zero_shot()
    if not chosen.can_be_asked:
        raise UsageError(f"Task '{chosen.name}' cannot be evaluated zero-shot", "Fine-tune a model on it.")
    if options:
        refuse_useless_options(chosen.Options, options, "asked", chosen.name)
        chosen = chosen.configured(validated(chosen.Options, dict(options), flags="--option "))
    chosen = chosen.prompted(question, label_words or {})
    if calibrated and not chosen.compares_labels:
        raise UsageError(
            f"--calibrate: task '{chosen.name}' compares no labels that could be calibrated", "Leave it out."
        )
    if shots and not chosen.takes_shots:
        raise UsageError(f"--shots {shots}: task '{chosen.name}' takes no few-shot examples", "Leave it out.")
    where = {"device": device, "precision": precision, "engine": engine, "verify": verify}
    few = Shots(shots, str(data) if isinstance(data, Path) else data, sampler, seed, encoding, skip_invalid)
    return ZeroShotModel(model, chosen, plugins, few, calibrated, dict(column or {}), where)


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
        shots: Shots,
        calibrated: bool,
        column: Mapping[str, str],
        where: Mapping[str, Any],
    ) -> None:
        self.model = model
        self.plugins = plugins
        self.shots = shots
        self.calibrated = calibrated
        self._task = task
        self._column = column
        self._where = where

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.model, self._task, self.shots, self.calibrated, self._column, self._where)

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
        return self._predictor(*self._fitted, own=False)

    @cached_property
    def _fitted(self) -> tuple[Task, list[Example]]:
        """The task, and the few-shot examples to draw from, of the data that was named."""
        if self.shots.count and self.shots.data is None:
            raise UsageError(f"--shots {self.shots.count}: there is nothing to draw from", "Give labelled --data.")
        pool: list[Example] = []
        task = self._task
        if self.shots.data is not None:
            task, pool = self._fitted_pool(self.shots.data)
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
        from gpt_tasks.data.in_memory import described

        data = None if self.shots.data is None else described(self.shots.data)
        shots = {**asdict(replace(self.shots, data=None)), "data": data}
        return {"model": self.model, "task": self._task.name, **shots, "calibrated": self.calibrated, **self._where}

    def columns(self, source: Source, split: str, given: Mapping[str, str]) -> dict[str, str]:
        """Return the columns of fields: those that are given."""
        return {**self._column, **given}

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
        if self.shots.data is not None:
            drawn_from, labelled = self._labelled(self.shots.data, scratch)
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
            notes.append("There is no train split: no baselines are fitted, and shots come from what is evaluated.")
        else:
            notes += note_on_shots(examples, train)
        notes += notes_on(examples)
        notes += note_on_training(examples, self.responder.trained_rows)
        predictor = self._predictor(task, examples if train is None else train, own=train is None)
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
                notes=notes,
                output=output,
            )

    def _cache(self, output: Path) -> AnswerCache:
        from gpt_tasks.scoring.cache import AnswerCache

        output.mkdir(parents=True, exist_ok=True)
        say = tell
        return AnswerCache(output / self.unfinished, self.responder.identity, say)

    def _predictor(self, task: Task, pool: Iterable[Example], *, own: bool) -> ZeroShotPredictor:
        drawn_from = list(pool) if self.shots.count else []
        return ZeroShotPredictor(task, self.responder, drawn_from, self.shots, own, self.calibrated)

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

        source = open_source(data, self.plugins.registry.sources, self.shots.encoding)
        split = next((name for name in ("train", ALL) if name in source.splits), next(iter(source.splits)))
        stream = stream_examples(
            self._task,
            source,
            split,
            columns=self._column,
            need_labels=True,
            skip_invalid=self.shots.skip_invalid,
        )
        return source, _Labelled(stream, store_examples(stream.examples(), scratch))


def _reopened(model: str, task: Task, *settings: Any) -> ZeroShotModel:
    return ZeroShotModel(model, task, installed_plugins(), *settings)


class _Labelled(NamedTuple):
    """Examples with right answers, and the stream that they were read from."""

    stream: Stream
    examples: Examples

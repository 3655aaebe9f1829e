"""A finished run: its report, and its model to predict and evaluate with, from Python as from the command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from gpt_tasks.backbone.reference import verify_reference
from gpt_tasks.backbone.shared import SharedBackbones
from gpt_tasks.backbone.verify import blaming_damage, refuse_unfinished, verify_run
from gpt_tasks.errors import ModelError, PluginError, UsageError, said
from gpt_tasks.evaluation.answering import AnsweringModel
from gpt_tasks.evaluation.report import Report
from gpt_tasks.files import machine_errors
from gpt_tasks.paths import user_path
from gpt_tasks.plugins import Plugins, installed_plugins
from gpt_tasks.processes import rank
from gpt_tasks.saved_json import read_json
from gpt_tasks.shown import tell
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.options import TaskOptions, reading_options, validated
from gpt_tasks.threads import loaded_once
from gpt_tasks.training.run_folder import RunFolder

if TYPE_CHECKING:
    from gpt_tasks.data.sources import Source
    from gpt_tasks.learners.base import Learner

_AGAIN = "Copy the run again, or train it again."


def load(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    decoding: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    verify: bool = True,
) -> Run:
    """Open the finished run in a folder.

    `options` are those of the task that say how data are read, as in `{"answers": "from-1"}`, where they differ from
    those of the training.

    `decoding` says how answers are written, as in `{"num_beams": 4}`; the names are those of `gpt-tasks generate`'s
    flags, and without it the likeliest token is taken each time. `precision` auto is that of the training where the
    device is of the same kind. Raises UsageError where the run writes no answers, and for an option that its training
    fixed; ModelError where the folder holds none, an unfinished or a damaged one; PluginError naming the distribution
    to install where the run's plugin is missing. The model itself is loaded when it is first used; then ModelError
    names a file of it that is not the one that was trained, unless `verify` is False.
    """
    folder = RunFolder(user_path(path))
    with machine_errors():
        record = folder.record()
        refuse_unfinished(Path(path), record)
        file = folder.path / "metrics.json"
        saved = read_json(file, _AGAIN)
        try:
            report = Report.from_json(saved)
        except ValueError as error:
            raise ModelError(f"{file}: {error}", _AGAIN) from error
    plugins, plugin = installed_plugins(), record["plugin"]
    task = installed_task(plugins, folder.path, record["task"], plugin["distribution"], plugin["version"])
    task = task.configured(_options(task, record["config"]["options"])).resolved()
    if task.learner is None:
        raise ModelError(f"The run in {path} is of task '{task.name}', which trains nothing", "Train the run again.")
    if decoding:
        _check_decoding(decoding, task, plugins)
    reading = _reading(options, record["config"]["options"], task) if options else None
    return Run(folder, record, report, plugins, task.learner, device, precision, decoding, verify, reading)


def load_all(
    paths: Sequence[str | Path], *, device: str = "auto", precision: str = "auto", verify: bool = True
) -> list[Run]:
    """Open several runs. Those that keep the same backbone by reference have it in memory once.

    Each has but its head to itself, and the weights that its adapter is merged into: see `load`, also for the errors.
    """
    if isinstance(paths, str | Path) or not isinstance(paths, Iterable):
        raise UsageError(f"paths: {paths!r:.60}: this is no list of runs", "Give a list, or one to load().")
    shared = SharedBackbones(device)
    runs = [load(path, device=device, precision=precision, verify=verify) for path in paths]
    for run in runs:
        run._shared = shared
    return runs


class Run(AnsweringModel):
    """A fine-tuned model with its task. `path` is its folder, `report` what it scored on its test split.

    It answers from several threads at once, and in a forked process. A pickled run is the place of its folder and how
    it was opened: whoever unpickles it needs the folder, and loads the model when it is first used.
    """

    def __init__(
        self,
        folder: RunFolder,
        record: Mapping[str, Any],
        report: Report,
        plugins: Plugins,
        learner: str,
        device: str = "auto",
        precision: str = "auto",
        decoding: Mapping[str, Any] | None = None,
        verify: bool = True,
        reading: TaskOptions | None = None,
    ) -> None:
        self.path = folder.path
        self.record = record
        self.report = report
        self.plugins = plugins
        self._folder = folder
        self._place = folder.path.resolve()
        self._learner = learner
        self._device = device
        self._precision = precision
        self._decoding = decoding
        self._verify = verify
        self._reading = reading
        self._shared: SharedBackbones | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        how: dict[str, Any] = {"device": self._device, "precision": self._precision, "decoding": self._decoding}
        how["options"] = self._reading and self._reading.model_dump(exclude_none=True)
        return partial(load, **how, verify=self._verify), (self._place,)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, task={self.record['task']!r})"

    @loaded_once
    def predictor(self) -> Learner[Any]:
        """The model with its task, loaded when it is first used."""
        # Imported here: it imports torch, and a wrong folder should be reported without waiting for it.
        from gpt_tasks.training.loading import load_learner

        with self.guarded():
            if self._verify:
                verify_run(self.path)
                verify_reference(self._folder.model)
            return load_learner(
                self._folder,
                self.record,
                self.plugins,
                lambda saved: installed_task(self.plugins, self.path, saved.task, saved.plugin, saved.plugin_version),
                device=self._device,
                precision=self._precision,
                decoding=self._decoding,
                shared=self._shared,
            )

    @property
    def task(self) -> Task:
        """The task, as it was when the run was trained, but for how data are read."""
        task: Task = self.predictor.task
        return task if self._reading is None else task.configured(self._reading)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Turn what the machine refuses, and what a plugin raises, into errors that name them."""
        suspect = self.plugins.find(self.plugins.registry.learners.owner(self._learner))
        unchecked = nullcontext() if self._verify else blaming_damage(self.path)
        with machine_errors(), self.plugins.attribute_errors(suspect=suspect), unchecked:
            yield

    def configuration(self) -> dict[str, Any]:
        """Return the run's folder, its task and the model that it was trained from."""
        config = self.record["config"]
        return {"model": str(self.path), "task": self.record["task"], "backbone": config["backbone"]}

    def columns(self, source: Source, split: str, given: Mapping[str, str]) -> dict[str, str]:
        """Return the columns of fields: as given, or as the training data calls them where those are there."""
        there = source.columns(split)
        trained = {field: name for field, name in self.record["config"]["column"].items() if name in there}
        return {**trained, **given}

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
        """Evaluate on a split of a source, alongside the baselines that were fitted when the run was trained."""
        from gpt_tasks.data.leaks import load_trained, note_on_training, notes_on
        from gpt_tasks.data.splits import load_examples
        from gpt_tasks.evaluation.evaluate import evaluate

        learner, task = self.predictor, self.task
        names = [*task.metrics, *self.record["config"].get("metric", ()), *metrics]
        chosen = self.plugins.registry.metrics_of(task, names)
        private = self.record["config"].get("private", False)
        try:
            if not (private and learner.baselines_hold_texts):
                learner.load_baselines(self._folder.baselines)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ModelError(
                f"The baselines in {self._folder.baselines} cannot be read: {type(error).__name__}: {said(error)}",
                _AGAIN,
            ) from error
        examples, notes = load_examples(
            task,
            source,
            split,
            columns=columns,
            by=by,
            cluster=cluster,
            skip_invalid=skip_invalid,
            scratch=scratch,
        )
        return evaluate(
            learner,
            examples,
            split=split,
            metrics=learner.report_metrics(chosen),
            by=by,
            cluster=cluster,
            training=self.report.training,
            notes=[
                *source.notes,
                *notes,
                *note_on_training(examples, load_trained(self.path)),
                *notes_on(examples),
                *(_not_kept(learner) if private else ()),
            ],
            output=output,
            show_progress=rank() == 0,
        )


def _not_kept(learner: Learner[Any]) -> list[str]:
    """Say what an evaluation of a private run lacks."""
    notes = ["The run is private: it does not record which rows it was trained on, so that they are not counted here."]
    if learner.baselines_hold_texts:
        notes.append("The run is private: it holds no baselines that were fitted on texts.")
    return notes


def _options(task: Task, given: Mapping[str, Any]) -> TaskOptions:
    """Return the options of a run, which were valid when it was made: a file that they name may since be gone."""
    try:
        return task.Options.model_validate(given)
    except ValidationError:
        return task.Options.model_construct(**given)


def _reading(options: Mapping[str, Any], trained: Mapping[str, Any], task: Task) -> TaskOptions:
    """Return the options that say how data are read. Raises UsageError for others, which training fixed."""
    known = reading_options(task.Options)
    for name, value in options.items():
        if name in task.Options.model_fields and name not in known:
            raise UsageError(
                f"--option {name}={value} has no effect: of a finished run it is fixed",
                f"Of task '{task.name}' it can be {' or '.join(known)}." if known else "Leave it out.",
            )
    return validated(task.Options, dict(options), flags="--option ")


def _check_decoding(decoding: Mapping[str, Any], task: Task, plugins: Plugins) -> None:
    """Raise UsageError for invalid generation settings."""
    from gpt_tasks.generation.decoding import Decoding

    if not plugins.registry.learners[str(task.learner)].load().writes:
        name, value = next(iter(decoding.items()))
        raise UsageError(
            f"--decoding {name}={value}: a run of task '{task.name}' writes no answers that it could be for",
            "Leave it out.",
        )
    if Decoding.checked(**decoding).num_return_sequences > 1:
        raise UsageError(
            f"--decoding num_return_sequences={decoding['num_return_sequences']}: an example gets one answer",
            "Leave it out: it is for gpt-tasks generate.",
        )


def current_name(name: str, plugins: Plugins) -> str:
    """Return the current name of a task; a former one is reported."""
    current = plugins.registry.tasks.current_name(name)
    if current != name and rank() == 0:
        _say_renamed(name, current)
    return current


@cache
def _say_renamed(name: str, current: str) -> None:
    """Report the current name, once in a process."""
    tell(f"Task '{name}' is called '{current}' now.")


def installed_task(plugins: Plugins, path: Path, name: str, distribution: str, version: str) -> Task:
    """Return the task of a run. Raises PluginError where it is not installed, or is another distribution's."""
    tasks = plugins.registry.tasks
    needs = f"The run in {path} needs task '{name}' of {distribution}"
    way_out = f"Install it: pip install {distribution}=={version}"
    try:
        task = tasks[current_name(name, plugins)]
    except UsageError:
        raise PluginError(f"{needs}, which is not installed", way_out) from None
    owner = plugins.find(tasks.owner(name)).distribution
    if owner != distribution:
        raise PluginError(f"{needs}, but here it is that of {owner}", way_out)
    return task

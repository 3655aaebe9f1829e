"""Fine-tune a backbone to a task: from data to a finished run folder."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gpt_tasks.backbone.locate import Location, locate
from gpt_tasks.backbone.methods import option_owners, refuse_other_options, with_options
from gpt_tasks.backbone.verify import RECORD
from gpt_tasks.data.in_memory import InMemory
from gpt_tasks.errors import DataError, ModelError, PluginError, UsageError
from gpt_tasks.events import observed
from gpt_tasks.extensions import Method
from gpt_tasks.files import machine_errors
from gpt_tasks.paths import OutputFolder, user_path
from gpt_tasks.plugins import OWN_DISTRIBUTION, Plugins, installed_plugins
from gpt_tasks.processes import alone_in, barrier, broadcast, init_processes, rank
from gpt_tasks.saved_json import first_fault
from gpt_tasks.shown import quoted, tell
from gpt_tasks.signals import uninterrupted
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.options import validated
from gpt_tasks.threads import one_training
from gpt_tasks.training.checkpoint_files import remove_damaged
from gpt_tasks.training.checks import check_learner, check_machine, check_reference, refuse_useless
from gpt_tasks.training.config import (
    PLACES,
    ConfigFile,
    FinetuneConfig,
    configured,
    merged,
    read_config,
    with_method_options,
)
from gpt_tasks.training.record import FOLDER
from gpt_tasks.training.run import Run, current_name, load
from gpt_tasks.training.run_folder import RunFolder, default_folder

# `sqlite:` FILE `#TABLE`, of which only the file need be there.
_PLACE = re.compile(r"([a-z][a-z0-9_+.-]*:)?(.*?)(#[^#]*)?", re.DOTALL)


def finetune(
    task: str,
    *,
    config: str | Path | None = None,
    output: str | Path | None = None,
    resume: bool = False,
    **settings: Any,
) -> Run:
    """Fine-tune a backbone to `task` and return the finished run.

    `settings` are the fields of FinetuneConfig and the method's options, as in `data="reviews.csv", backbone="gpt2",
    epochs=3, method="lora", lora_r=8`; they win over those of the YAML file `config`. `data` may also be a data frame
    of pandas or polars, a `datasets.Dataset`, a list of mappings, or a mapping of these by split. `output` is the run's
    folder, by default a new one under ./runs. With `resume` the unfinished run in `output` continues from its last
    checkpoint, with the settings it was started with; others are refused, given here or in `config`.

    Raises UsageError, DataError, ModelError, PluginError or MachineError, each saying what to do. Before its first
    checkpoint a run that fails leaves nothing behind. Trainings in several threads wait for each other.
    """
    plugins = installed_plugins()
    with one_training(), machine_errors(), plugins.attribute_errors():
        file = None if config is None else user_path(config, "--config")
        folder = None if output is None else RunFolder(user_path(output, "--output"))
        return _finetune(task, file, folder, resume, settings, plugins)


def _finetune(
    name: str,
    file: Path | None,
    folder: RunFolder | None,
    resume: bool,
    settings: dict[str, Any],
    plugins: Plugins,
) -> Run:
    if resume and folder is None:
        raise UsageError("--resume needs the run to continue", "Name its folder with --output.")
    name = current_name(name, plugins)
    task = fine_tunable(name, plugins)
    owners = option_owners(plugins.registry.methods.values())
    read = read_config(file, task.Options, owners) if file else ConfigFile()
    settings = with_method_options(settings, owners)
    config = configured(settings, read)
    if folder and resume:
        with config.named_by_origin():
            config = _agreeing(*_recorded(folder, name, plugins), merged(read.settings, settings), plugins)
            if config.private:
                _check_given_again(config, plugins)
    with config.named_by_origin():
        return _run(name, task, config, folder, resume, plugins)


def _run(
    name: str, task: Task, config: FinetuneConfig, folder: RunFolder | None, resume: bool, plugins: Plugins
) -> Run:
    task = task.configured(validated(task.Options, config.options)).resolved()
    methods = plugins.registry.methods
    if config.tuning not in methods.offered():
        raise UsageError(f"--method {config.method}: there is no such method", methods.near(config.tuning))
    refuse_other_options(methods[config.tuning], config.method_options, option_owners(methods.values()))
    method = with_options(methods[config.tuning], config.method_options)
    if not resume:
        refuse_useless(config, task, method)
    # Before torch is imported: a wrong name or a missing network is reported at once.
    location = locate(config.backbone, plugins.registry.backbones)
    if not resume:
        check_reference(config, location, plugins)
        check_learner(config, task, method, plugins)
    check_machine(config, location)
    init_processes(config.device)
    folder = folder or RunFolder(broadcast(default_folder(name)))
    written = OutputFolder(folder.path)
    try:
        if rank() == 0 and not resume:
            with uninterrupted():
                written = folder.create(private=config.private)
        with alone_in(folder.path):
            _train_in(task, method, location, config, folder, written, plugins, resume=resume)
    finally:
        with uninterrupted():
            written.remove_empty()
    return load(folder.path)


def _train_in(
    task: Task,
    method: Method,
    location: Location,
    config: FinetuneConfig,
    folder: RunFolder,
    written: OutputFolder,
    plugins: Plugins,
    *,
    resume: bool,
) -> None:
    """Train in a folder that no other process works in, and leave in it a run, what it can be resumed from, or none."""
    if rank() == 0:
        remove_damaged(folder.checkpoints, tell)
    try:
        if rank() == 0 and not resume:
            began = {} if config.private else {FOLDER: str(Path.cwd())}
            folder.write({"task": task.name, "config": config.recorded(), **began}, "unfinished")
        barrier()
        _train(task, method, location, config, folder, plugins)
    except BaseException as error:
        if rank() == 0:
            with uninterrupted():
                _leave(folder, written, task.name, config, error)
        raise
    finally:
        with uninterrupted():
            shutil.rmtree(folder.scratch, ignore_errors=True)


def _train(
    task: Task,
    method: Method,
    location: Location,
    config: FinetuneConfig,
    folder: RunFolder,
    plugins: Plugins,
) -> None:
    # Imported here: these modules import torch, and a command that computes nothing should not wait for it.
    from gpt_tasks.backbone.quiet import quiet_transformers
    from gpt_tasks.training.checkpoints import LossError
    from gpt_tasks.training.results import close
    from gpt_tasks.training.session import Session

    started = time.monotonic()
    owner = plugins.find(plugins.registry.learners.owner(str(task.learner)))
    with quiet_transformers(), plugins.attribute_errors(suspect=owner):
        session = Session.open(task, method, location, config, folder, plugins)
        try:
            with observed(plugins, "finetune", folder.path, session.record()) as observers:
                session.train(observers)
                if rank() == 0:
                    observers.finish(close(session, time.monotonic() - started).values(), folder.artifacts())
                barrier()
        except LossError as error:
            if owner.distribution != OWN_DISTRIBUTION:
                raise PluginError(
                    f"Learner '{task.learner}' ({session.learner_source()}): {error}", "Fix it."
                ) from error
            told = str(error)
            raise ModelError(
                f"{told[0].upper()}{told[1:]}", "Lower --learning-rate, or give --precision float32."
            ) from error


def fine_tunable(name: str, plugins: Plugins) -> Task:
    """Return a task. Raises PluginError where it names a learner, a head or a metric that is not registered."""
    registry = plugins.registry
    task = registry.tasks[name]
    if task.learner is None:
        hint = (
            f"Evaluate a model zero-shot: gpt-tasks evaluate MODEL --task {name}"
            if task.zero_shot().can_be_asked
            else "Its plugin must name a learner: see docs/plugins.md."
        )
        raise UsageError(f"Task '{name}' cannot be fine-tuned: it names no learner", hint)
    missing: list[str] = []
    if task.learner not in registry.learners:
        missing.append(f"learner '{task.learner}'")
    if task.head is not None and task.head not in registry.heads:
        missing.append(f"head '{task.head}'")
    own = [metric.name for metric in task.own_metrics]
    missing += [f"metric '{metric}'" for metric in task.metrics if metric not in own and metric not in registry.metrics]
    if task.best_metric not in ("loss", *task.metrics):
        missing.append(f"best metric '{task.best_metric}' among its metrics")
    if missing:
        plugin = plugins.find(registry.tasks.owner(name))
        raise PluginError(
            f"Task '{name}' of plugin '{plugin.name}' ({plugin.source}) names a {missing[0]}, which does not exist",
            "Fix the task, or install what it needs.",
        )
    return task


def _recorded(folder: RunFolder, name: str, plugins: Plugins) -> tuple[FinetuneConfig, Path]:
    """Return the configuration of the unfinished run in `folder`, and where it was started."""
    record = folder.record()
    if record["status"] == "finished":
        raise UsageError(f"The run in {folder.path} is finished: there is nothing to resume", "Start another run.")
    if plugins.registry.tasks.current_name(record["task"]) != name:
        raise UsageError(f"The run in {folder.path} is of task '{record['task']}', not '{name}'", "Name that task.")
    try:
        config = FinetuneConfig.restored(record["config"], record.get("origins", {}))
    except ValidationError as error:
        raise ModelError(f"{folder.path / RECORD}: 'config': {first_fault(error)}", "Start another run.") from error
    return config, Path(record.get(FOLDER) or "")


def _agreeing(config: FinetuneConfig, began: Path, settings: dict[str, Any], plugins: Plugins) -> FinetuneConfig:
    """Return a run's configuration, its relative paths as they are from the folder where it was started.

    Raises UsageError for settings given anew that do not agree with it.
    """
    before = config.recorded()
    given = configured(merged(before, settings))
    anew = given.recorded()
    moved = {name: _placed(value, began, plugins) for name, value in before.items() if name in PLACES}
    for field in FinetuneConfig.model_fields:
        same = field in PLACES and field in settings and _placed(anew[field], Path(), plugins) == moved[field]
        if anew[field] != before[field] and not same:
            raise UsageError(
                f"--{field.replace('_', '-')}: the run was started with {before[field]!r}, not {anew[field]!r}",
                "The settings of a resumed run are fixed: leave the flag out, or start another run.",
            )
    if config.private:
        # Of the paths only those that are given now have their folders.
        return config.model_copy(update={name: getattr(given, name) for name in PLACES})
    # Of data that a program holds, only what was given now has the rows.
    held = {name: getattr(given, name) for name in PLACES if isinstance(getattr(given, name), InMemory)}
    elsewhere = {} if began.resolve() == Path.cwd() else moved
    return config.model_copy(update={**elsewhere, **held})


def _placed(place: str | None, folder: Path, plugins: Plugins) -> str | None:
    """Return a place, as `--data` and `--backbone` name them, as an absolute path where it is one from a folder."""
    if place is None or place in plugins.registry.backbones:
        return place
    scheme, path, part = _PLACE.fullmatch(place).groups("")  # type: ignore[union-attr]
    for prefix, rest, behind in (("", place, ""), (scheme, path + part, ""), (scheme, path, part)):
        if rest and (folder / rest).exists():
            return f"{prefix}{(folder / rest).resolve()}{behind}"
    return place


def _check_given_again(config: FinetuneConfig, plugins: Plugins) -> None:
    """Raise UsageError where a private run that is resumed does not say where a file is that is not here."""
    for name in PLACES:
        place = getattr(config, name)
        is_name = isinstance(place, str) and not re.search(r"[:/]", place) and place not in plugins.registry.backbones
        if is_name and not user_path(place).exists():
            raise UsageError(
                f"--{name}: the run is private, and records of {place} the name alone", "Give its path again."
            )


def _leave(folder: RunFolder, written: OutputFolder, name: str, config: FinetuneConfig, error: BaseException) -> None:
    """Clear the folder of a failed run, or say how to continue where there is a checkpoint."""
    if folder.finished:
        return
    if not folder.resumable:
        written.clear()
    elif not isinstance(error, DataError):
        again = " --data FILE" if config.private and isinstance(config.data, str) else ""
        tell(
            "The unfinished run is saved. Continue with: "
            f"gpt-tasks finetune {name} --output {quoted(folder.path)} --resume{again}"
        )

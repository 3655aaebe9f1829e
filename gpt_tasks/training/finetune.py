"""Fine-tune a backbone to a task: from data to a finished run folder."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from gpt_tasks.backbone.load import Location, locate
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.extensions import Method
from gpt_tasks.files import machine_errors
from gpt_tasks.plugins import Plugins, installed_plugins
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.training.config import FinetuneConfig, configured, read_yaml, validated
from gpt_tasks.training.processes import agreed, join, rank, wait
from gpt_tasks.training.run import Run, load
from gpt_tasks.training.run_folder import RunFolder, default_folder
from gpt_tasks.types import Event


def finetune(
    task: str,
    *,
    config: str | Path | None = None,
    output: str | Path | None = None,
    resume: bool = False,
    **settings: Any,
) -> Run:
    """Fine-tune a backbone to `task` and return the finished run.

    `settings` are the fields of FinetuneConfig, as in `data="reviews.csv", backbone="gpt2", epochs=3`; they win over
    those of the YAML file `config`. `output` is the run's folder, by default a new one under ./runs. With `resume`
    the unfinished run in `output` goes on from its last checkpoint, with the settings it was started with; others are
    refused, given here or in `config`.

    Raises UsageError, DataError, ModelError, PluginError or MachineError, each saying what to do. Before its first
    checkpoint a run that fails leaves nothing behind.
    """
    plugins = installed_plugins()
    with machine_errors(), plugins.blaming():
        return _finetune(task, Path(config) if config else None, output, resume, settings, plugins)


def _finetune(
    name: str,
    file: Path | None,
    output: str | Path | None,
    resume: bool,
    settings: dict[str, Any],
    plugins: Plugins,
) -> Run:
    if resume and output is None:
        raise UsageError("--resume needs the run to go on with", "Name its folder with --output.")
    folder = RunFolder(Path(output)) if output else None
    if folder and resume:
        config = _recorded(folder, name, {**(read_yaml(file) if file else {}), **settings})
    else:
        config = configured(settings, file)
    task = _configured_task(name, config, plugins)
    method = plugins.registry.methods[config.method]
    # Before torch is imported: a wrong name or a missing network is told at once.
    location = locate(config.backbone, plugins.registry.backbones)
    join(config.device)
    folder = folder or RunFolder(agreed(default_folder(name)))
    if rank() == 0 and not resume:
        folder.create()
    try:
        if rank() == 0 and not resume:
            folder.write({"task": name, "config": config.model_dump()}, "unfinished")
        wait()
        _train(task, method, location, config, folder, plugins)
    except BaseException as error:
        if rank() == 0:
            _leave(folder, name, error)
        raise
    finally:
        shutil.rmtree(folder.scratch, ignore_errors=True)
    return load(folder.path)


def _train(
    task: ClassificationTask,
    method: Method,
    location: Location,
    config: FinetuneConfig,
    folder: RunFolder,
    plugins: Plugins,
) -> None:
    # Imported here: these rooms import torch, which no command should wait for that has nothing to compute.
    from gpt_tasks.training.outcome import finish
    from gpt_tasks.training.session import Session

    started = time.monotonic()
    session = Session.open(task, method, location, config, folder, plugins)
    try:
        session.train()
        if rank() == 0:
            finish(session, time.monotonic() - started)
        wait()
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        session.observers.tell(Event("run_ended", folder.path, values={"status": status}))
        raise


def _configured_task(name: str, config: FinetuneConfig, plugins: Plugins) -> ClassificationTask:
    task = plugins.registry.tasks[name]
    if not isinstance(task, ClassificationTask):
        raise UsageError(f"Task '{name}' cannot be fine-tuned", "Give a task of the classification family.")
    return task.configured(validated(task.Options, config.options))


def _recorded(folder: RunFolder, name: str, settings: dict[str, Any]) -> FinetuneConfig:
    """Return the configuration of the unfinished run in `folder`; settings given anew must agree with it."""
    record = folder.record()
    if record["status"] == "finished":
        raise UsageError(f"The run in {folder.path} is finished: there is nothing to resume", "Start another run.")
    if record["task"] != name:
        raise UsageError(f"The run in {folder.path} is of task '{record['task']}', not '{name}'", "Name that task.")
    config = FinetuneConfig(**record["config"])
    anew = configured({**config.model_dump(), **settings})
    for field in FinetuneConfig.model_fields:
        if getattr(anew, field) != getattr(config, field):
            raise UsageError(
                f"--{field.replace('_', '-')}: the run was started with {getattr(config, field)!r}, "
                f"not {getattr(anew, field)!r}",
                "A resumed run keeps its settings: leave the flag out, or start another run.",
            )
    return config


def _leave(folder: RunFolder, name: str, error: BaseException) -> None:
    """Clear the folder of a failed run away, or say how to go on where there is a checkpoint."""
    if folder.finished:
        return
    if not folder.resumable:
        folder.clear()
    elif not isinstance(error, DataError):
        print(
            f"The run is kept, unfinished. Go on with: gpt-tasks finetune {name} --output {folder.path} --resume",
            file=sys.stderr,
        )

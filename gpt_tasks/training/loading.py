"""Load the model of a finished run, with its task, as the learner that answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gpt_tasks.backbone.load import Backbone, open_backbone
from gpt_tasks.backbone.locate import locate
from gpt_tasks.backbone.precision import resolve_device, resolve_precision, resolve_writing_precision
from gpt_tasks.backbone.shared import SharedBackbones
from gpt_tasks.errors import GptTasksError, ModelError, said
from gpt_tasks.heads.saved import TASK, TaskRecord, load_model
from gpt_tasks.learners.base import Learner, LearnerSettings
from gpt_tasks.plugins import Plugins
from gpt_tasks.tasks.base import Task
from gpt_tasks.training.run_folder import RunFolder


def load_learner(
    folder: RunFolder,
    record: Mapping[str, Any],
    plugins: Plugins,
    find_task: Callable[[TaskRecord], Task],
    *,
    device: str,
    precision: str,
    decoding: Mapping[str, Any] | None,
    shared: SharedBackbones | None = None,
) -> Learner[Any]:
    """Return the learner of a run, its model in evaluation mode on the device.

    Raises ModelError where what is in `model/` does not fit together.
    """
    registry = plugins.registry
    where = resolve_device(device)
    own = record["settings"]["precision"] if str(record["settings"]["device"]).startswith(where.type) else "auto"
    precision = own if precision == "auto" else precision
    saved = load_model(folder.model, registry.heads, registry.methods, shared)
    task = _restored(find_task(saved.record), saved.record.state, folder.model / TASK)
    if task.learner is None or (task.head is None) != (saved.head is None):
        raise ModelError(
            f"{folder.model / TASK}: task '{task.name}' is of another family than when the run was trained",
            f"Install {saved.record.plugin} {saved.record.plugin_version}.",
        )
    kind: type[Learner[Any]] = registry.learners[task.learner].load()
    writes = resolve_writing_precision(precision, where) if kind.writes else None
    settings = LearnerSettings(
        max_length=record["settings"]["max_length"],
        batch_tokens=record["settings"]["batch_tokens"],
        # The likelihood of the right answers is computed from the unchanged weights.
        precision=resolve_precision(own if writes == "int8" else precision, where),
        device=where,
        seed=record["settings"]["seed"],
        writing_precision=writes,
        decoding=decoding,
        untrained=lambda: _untrained(record, plugins),
        private=bool(record["config"].get("private")),
    )
    learner = kind(task, saved.backbone, settings)
    if saved.head is not None and learner.outputs != saved.record.outputs:
        raise ModelError(
            f"{folder.model / TASK}: task '{task.name}' has {learner.outputs} outputs, its head {saved.record.outputs}",
            "Labels and head must belong together; copy the run again.",
        )
    if saved.record.counts:
        learner.load_counts(folder.model)
    causal_lm: Any = saved.backbone.model
    learner.model = learner.join(saved.transformer, saved.head).to(where).eval()
    if saved.head is None:
        causal_lm.to(where).eval()
    return learner


def _restored(task: Task, state: Mapping[str, Any], file: Path) -> Task:
    """Return a task as it was saved. Raises ModelError naming what of its state it cannot be."""
    try:
        return task.restored(state).resolved()
    except GptTasksError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        fault = said(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {said(error)}"
        raise ModelError(f"{file}: 'state' is none of task '{task.name}': {fault}", "Copy the run again.") from error


def _untrained(record: Mapping[str, Any], plugins: Plugins) -> Backbone:
    """Open the backbone that a run was trained from. Raises ModelError where it is not there, or changed."""
    spec = record["config"]["backbone"]
    backbone = open_backbone(locate(spec, plugins.registry.backbones))
    if backbone.fingerprint != record["fingerprints"]["backbone"]:
        raise ModelError(f"The backbone {spec} changed since the run was trained", "Restore it.")
    return backbone

"""A model that is prompted without training: zero-shot, or after few-shot examples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import UsageError
from gpt_tasks.evaluation.asking import Prompting
from gpt_tasks.evaluation.prompted_model import ZeroShotModel
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.scoring.shots import DEFAULT_SEED, Sampler
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.options import refuse_useless_options, validated

if TYPE_CHECKING:
    from gpt_tasks.scoring.engine import EngineName


def zero_shot(
    model: str,
    task: str | Task,
    *,
    shots: int = 0,
    data: Any = None,
    sampler: Sampler = "random",
    seed: int = DEFAULT_SEED,
    calibrated: bool = False,
    chat_template: bool | None = None,
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

    `shots` few-shot examples come before each, drawn from `data` (a path, a data frame, a list of mappings), or else
    from the train split of what is evaluated, or from what is evaluated where that has none. Text files of `data` are
    in `encoding`, where it is given; with `skip_invalid` rows of it that cannot be used are left out. `options` are the
    task's own; `question` and `label_words` say how labels are asked for, and `calibrated` divides each label's
    probability by the one that it has after inputs without content (contextual calibration, Zhao et al. 2021). With
    `chat_template` the model is asked by its chat template; where that is None it is decided, see
    `templates.choose_template`. Raises UsageError for a task that cannot be evaluated zero-shot, and for a setting of
    the wrong type. The model is loaded when it is first used; that of a run must be the one that was trained, unless
    `verify` is False.
    """
    if not isinstance(model, str | Path):
        raise UsageError(f"model: {model!r:.60}: this is no model", "Name a preset, a folder, a hub id or a run.")
    if not isinstance(task, str | Task):
        raise UsageError(f"task: {task!r:.60}: this is no task", "Give the name of one, or a Task.")
    mappings = {"label_words": label_words, "column": column, "options": options}
    given = {
        "shots": shots,
        "data": str(data) if isinstance(data, Path) else data,
        "sampler": sampler,
        "seed": seed,
        "encoding": encoding,
        "skip_invalid": skip_invalid,
        "calibrated": calibrated,
        "chat_template": chat_template,
        "question": question,
        **{name: _as_dict(value) for name, value in mappings.items()},
    }
    prompting = validated(Prompting, given, flags="")
    plugins = installed_plugins()
    chosen = (plugins.registry.tasks[task] if isinstance(task, str) else task).zero_shot()
    if not chosen.can_be_asked:
        raise UsageError(f"Task '{chosen.name}' cannot be evaluated zero-shot", "Fine-tune a model on it.")
    if prompting.options:
        refuse_useless_options(chosen.Options, prompting.options, "asked", chosen.name)
        chosen = chosen.configured(validated(chosen.Options, prompting.options, flags="--option "))
    chosen = chosen.prompted(prompting.question, prompting.label_words)
    if calibrated and not chosen.compares_labels:
        raise UsageError(
            f"--calibrate: task '{chosen.name}' compares no labels that could be calibrated", "Leave it out."
        )
    if shots and not chosen.takes_shots:
        raise UsageError(f"--shots {shots}: task '{chosen.name}' takes no few-shot examples", "Leave it out.")
    where = {"device": device, "precision": precision, "engine": engine, "verify": verify}
    return ZeroShotModel(str(model), chosen, plugins, prompting, where)


def _as_dict(given: Any) -> Any:
    return {} if given is None else dict(given) if isinstance(given, Mapping) else given

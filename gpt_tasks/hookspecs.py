"""Every hook a plugin can implement. Each runs once when plugins are loaded, but `observe`, which runs during a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

from gpt_tasks.extensions import BackbonePreset, HeadSpec, LearnerSpec, Method, Metric, Reader, ResponderSpec, Suite
from gpt_tasks.types import Event

if TYPE_CHECKING:
    import typer

    from gpt_tasks.tasks.base import Task

PROJECT = "gpt_tasks"
# Raised by one when a plugin that was right for the hooks below, and for what they take and return, no longer is.
HOOKS_VERSION = 1
# What a plugin's module may say: `GPT_TASKS_HOOKS = 1` is for this version alone.
DECLARATION = "GPT_TASKS_HOOKS"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_tasks() -> Sequence[Task]:
    """Return tasks: instances of a subclass of one of the families."""


@hookspec
def register_metrics() -> Sequence[Metric]:
    """Return metrics, which tasks and the command line then know by name."""


@hookspec
def register_suites() -> Sequence[Suite]:
    """Return suites: named YAML files that list tasks to score a model on."""


@hookspec
def register_backbones() -> Sequence[BackbonePreset]:
    """Return presets: short names for backbones, each with the place it is loaded from."""


@hookspec
def register_heads() -> Sequence[HeadSpec]:
    """Return kinds of head: modules on the backbone's hidden states."""


@hookspec
def register_learners() -> Sequence[LearnerSpec]:
    """Return learners: how models are trained on a family of tasks, and answer; tasks name theirs."""


@hookspec
def register_methods() -> Sequence[Method]:
    """Return tuning methods: which weights move, and with which defaults."""


@hookspec
def register_sources() -> Sequence[Reader]:
    """Return what data can be read from: schemes, each a prefix such as `sqlite:`, and formats of files."""


@hookspec
def register_responders() -> Sequence[ResponderSpec]:
    """Return responders: models that answer requests elsewhere, each chosen by a prefix such as `openai:`."""


@hookspec
def register_commands() -> Sequence[typer.Typer]:
    """Return Typer apps, each with a name, which become commands of `gpt-tasks`."""


@hookspec
def observe(event: Event) -> None:
    """Receive the events of a run: run started, step, evaluated, saved, run ended. The return value is ignored."""

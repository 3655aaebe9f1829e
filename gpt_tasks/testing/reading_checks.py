"""Checks that need nothing but the task's own code and its rows."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, get_args, get_origin

from gpt_tasks.errors import DataError
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.options import TaskOptions
from gpt_tasks.tasks.prompts import prompt_fields
from gpt_tasks.testing.checks import CheckError, SkipError, require
from gpt_tasks.testing.fixture import TaskFixture, read_all

HEAVY = ("torch", "transformers")
_IMPORTING = "GPT_TASKS_IMPORT_CHECKED"
_IMPORT = f"""
import importlib, importlib.util, sys
name, file = sys.argv[1:]
try:
    importlib.import_module(name if name != "__main__" else "")
except (ImportError, ValueError):
    spec = importlib.util.spec_from_file_location("task_under_test", file)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
print(*[heavy for heavy in {HEAVY} if heavy in sys.modules])
"""


def imports_no_torch(fixture: TaskFixture) -> None:
    """Import the task's module in another process, and see what that has loaded."""
    kind = type(fixture.task)
    loaded = _loaded_by(kind.__module__, inspect.getfile(kind))
    require(
        not loaded,
        f"Importing {kind.__module__} loads {' and '.join(loaded)}, for which every command would wait. Move the "
        "import into the function that needs it.",
    )


@cache
def _loaded_by(module: str, file: str) -> Sequence[str]:
    """Return which heavy libraries importing a module loads. Raises CheckError where it cannot be imported."""
    if _IMPORTING in os.environ:
        # A script that checks its own tasks would start itself again and again.
        raise CheckError(f"Importing {file} runs checks. Put them behind `if __name__ == '__main__':`.")
    process = subprocess.run(
        [sys.executable, "-c", _IMPORT, module, file],
        env={**os.environ, _IMPORTING: "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        *_, last = process.stderr.strip().splitlines() or [""]
        raise CheckError(f"The module {module} cannot be imported alone: {last}")
    lines = process.stdout.splitlines()
    return lines[-1].split() if lines else []


def uses_no_network(fixture: TaskFixture) -> None:
    """Use the task with every connection refused; an attempt counts, even one that is given up without a word."""
    with connections_refused() as attempts:
        try:
            _use(fixture)
        except Exception as error:
            # What else may be wrong is for other checks to say.
            if not attempts:
                raise SkipError(f"The task cannot be used: {type(error).__name__}.", "not run") from error
    require(
        not attempts,
        f"The task asks the network for {', '.join(dict.fromkeys(attempts))}. Ship what it needs with the package, or "
        "read it through a source scheme.",
    )


def names_what_exists(fixture: TaskFixture) -> None:
    """Look the task's head and metrics up, as a fine-tuning does; and see that no prompt names the right answer."""
    from gpt_tasks.training.finetune import fine_tunable

    task = fixture.task
    target = getattr(task, "target", None)
    for prompt in filter(None, (getattr(task, name, None) for name in ("prompt", "pair_prompt", "question"))):
        require(
            target is None or target not in prompt_fields(prompt),
            f"The prompt {prompt!r} names the right answer, {{{target}}}. Leave it out: no model may read it.",
        )
    if task.learner is not None:
        fine_tunable(task.name, fixture.plugins)
        return
    known = [*(metric.name for metric in task.own_metrics), *fixture.plugins.registry.metrics]
    for metric in task.metrics:
        require(metric in known, f"`metrics` names '{metric}', and there are {', '.join(known)}.")


def samples_fit(fixture: TaskFixture) -> None:
    """Read all samples by the task's columns, and make splits of some."""
    from gpt_tasks.data.splits import load_splits

    missing = fixture.samples is None
    try:
        read_all(fixture)
        _ = fixture.splits
        if not missing:
            schemes = fixture.plugins.registry.sources
            load_splits(fixture.task, data=None, seed=0, schemes=schemes, scratch=fixture.scratch / "samples")
    except DataError as error:
        if missing:
            raise CheckError(
                f"The task has no samples, and rows made up for its family do not fit ({error.message}). Put "
                "train.jsonl, validation.jsonl and test.jsonl into `samples/` next to its module."
            ) from error
        raise CheckError(f"{error.message}. Fix the samples, or `columns`: {error.hint}") from error
    if missing:
        raise SkipError("The task has no samples; rows made up for its family replace them.")


def state_survives_json(fixture: TaskFixture) -> None:
    """Store the task's state as JSON, restore the task, and compare what was fitted; store examples as JSON."""
    task = fixture.task
    for example in fixture.examples:
        try:
            json.dumps(dict(fixture.fitted.record(example)))
        except TypeError as error:
            raise CheckError(f"record() holds more than JSON values: {error}. Return lists, texts, numbers.") from error
    for settled in [fixture.fitted, *_configured(task)]:
        try:
            state = json.loads(json.dumps(settled.state()))
        except TypeError as error:
            raise CheckError(
                f"state() holds more than JSON values: {error}. Return lists, texts and numbers."
            ) from error
        restored = task.restored(state)
        for name, value in vars(settled).items():
            if name.startswith("_") or task.learner is None:
                continue
            found = getattr(restored, name, None)
            require(
                _plain(found) == _plain(value),
                f"`{name}` is {value!r} before the task is saved and {found!r} after it is restored. Return it from "
                "state(), along with what super().state() returns.",
            )
        require(
            _plain(restored.state()) == _plain(settled.state()), "restored() does not restore what state() returned."
        )


@contextmanager
def connections_refused() -> Iterator[list[str]]:
    """Refuse connections by name and by address; what is yielded is filled with whom they were for."""
    import socket

    attempts: list[str] = []
    before = {name: getattr(socket, name) for name in ("getaddrinfo", "gethostbyname")}

    def refuse(host: Any, *_: Any, **__: Any) -> Any:
        attempts.append(str(host))
        raise OSError("The network is refused while a task is checked")

    class Refusing(socket.socket):
        def connect(self, address: Any, /) -> None:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                refuse(address[0])
            super().connect(address)

        def connect_ex(self, address: Any, /) -> int:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                refuse(address[0])
            return super().connect_ex(address)

    real = socket.socket
    try:
        socket.socket = Refusing  # type: ignore[misc]
        for name in before:
            setattr(socket, name, refuse)
        yield attempts
    finally:
        socket.socket = real  # type: ignore[misc]
        for name, function in before.items():
            setattr(socket, name, function)


def _use(fixture: TaskFixture) -> None:
    """Do with the task what a command does with it before and after a model computes."""
    read_all(fixture)
    task, examples = fixture.fitted, fixture.examples
    task.restored(task.state())
    for example in examples:
        task.record(example)
    gold = task.fixtures().gold
    for example in examples:
        if task.can_be_asked:
            task.requests(example, "")
        if task.can_be_asked and task.takes_shots:
            task.fewshot_example(example)
        if gold is not None:
            task.score(example, gold(example))
    if fixture.learner is not None:
        fixture.learner.encode(examples)


def _configured(task: Task) -> Sequence[Task]:
    """Return the task with each of its options set to something else, as far as other values are known."""
    if task.learner is None:
        return []
    found = []
    for name, field in task.Options.model_fields.items():
        other = _other(getattr(task, name, None), field.annotation)
        if other is not None:
            options: TaskOptions = task.Options.model_construct(**{name: other})
            found.append(task.configured(options))
    return found


def _other(value: Any, annotation: Any) -> Any:
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)] or [annotation]
    if kinds == [bool]:
        return not value
    if get_origin(kinds[0]) is Literal:
        return next((choice for choice in get_args(kinds[0]) if choice != value), None)
    if kinds in ([int], [float]):
        return kinds[0]((value or 0) + 0.25 if kinds == [float] else (value or 0) + 1)
    return None


def _plain(value: Any) -> Any:
    """Return a value as JSON would return it, so that lists and tuples are the same."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value

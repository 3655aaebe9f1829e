"""A suite with the settings of a scoring: its examples are read, a model is asked, and the scores are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_tasks.errors import UsageError
from gpt_tasks.events import observed
from gpt_tasks.extensions import Metric
from gpt_tasks.files import machine_errors
from gpt_tasks.paths import user_path
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.processes import barrier, rank
from gpt_tasks.scoring.prompting import (
    ExampleRequests,
    ShotsPool,
    ask,
    notes_of,
    read_examples,
    refuse_useless_template,
    shots_pool,
)
from gpt_tasks.scoring.prompting import chat_template as chat
from gpt_tasks.scoring.responder import RegisteredResponder
from gpt_tasks.scoring.score_folder import open_cache, refuse_others, report, versions, working_in
from gpt_tasks.scoring.shots import DEFAULT_SEED, Sampler
from gpt_tasks.scoring.suites import LoadedSuite, ScoredTask, load_suite
from gpt_tasks.types import Example, Request, Response

if TYPE_CHECKING:
    from gpt_tasks.scoring.engine import EngineName
    from gpt_tasks.scoring.responder import Responses
    from gpt_tasks.scoring.results import ScoredExample, Scores, TaskScores
    from gpt_tasks.scoring.scorer import Scorer


@dataclass(frozen=True)
class ScoreSettings:
    """The settings of `score`, which describes them."""

    data_dir: str | Path | None = None
    shots: int | None = None
    shots_sampler: Sampler | None = None
    limit: int | None = None
    cluster: str | None = None
    chat_template: bool = False
    precision: str = "float32"
    device: str = "auto"
    engine: EngineName = "trie"
    batch_tokens: int | None = None
    seed: int | None = None
    trust_remote_code: bool = False
    verify: bool = True

    @property
    def opening(self) -> dict[str, Any]:
        """Those that a model is opened with."""
        names = ("device", "precision", "engine", "batch_tokens", "trust_remote_code", "verify")
        return {name: getattr(self, name) for name in names}

    @property
    def drawn(self) -> dict[str, Any]:
        """Those that say which examples are asked, and how."""
        return {
            "shots_sampler": self.shots_sampler or "random",
            "limit": self.limit,
            "chat_template": self.chat_template,
            "seed": DEFAULT_SEED if self.seed is None else self.seed,
        }


def open_suite(suite: str | LoadedSuite, settings: ScoreSettings) -> OpenedSuite:
    """Open a suite, of which no data are read yet. Raises what `load_suite` does."""
    registry = installed_plugins().registry
    data_dir = None if settings.data_dir is None else user_path(settings.data_dir, "--data-dir")
    loaded = suite
    if isinstance(loaded, str):
        loaded = load_suite(loaded, registry, data_dir=data_dir, shots=settings.shots)
    loaded = loaded if settings.cluster is None else loaded.clustered(settings.cluster)
    return OpenedSuite(loaded, settings)


@dataclass(frozen=True, eq=False)
class OpenedSuite:
    """A suite that is opened; its examples are read once, for all models."""

    suite: LoadedSuite
    settings: ScoreSettings

    @property
    def known(self) -> dict[str, Any]:
        """What scores hold of it, whatever the model."""
        return {"suite": self.suite.sha256, **self.settings.drawn}

    def read(self) -> None:
        """Read its examples, and those that shots are drawn from.

        Raises UsageError for a setting that has no effect on it, DataError for rows that cannot be used.
        """
        settings = self.settings
        given = {"shots": settings.shots or None, "shots_sampler": settings.shots_sampler, "seed": settings.seed}
        _refuse_useless(self.suite, given)
        refuse_useless_template(self.parts, self.examples, chat=settings.chat_template)
        _ = self.pools

    @cached_property
    def parts(self) -> list[ScoredTask]:
        """The parts of its tasks, each with one source."""
        return [part for task in self.suite.tasks for part in task.parts()]

    @cached_property
    def examples(self) -> list[list[tuple[Example, str | None]]]:
        """The examples of each part, each with its group."""
        schemes = installed_plugins().registry.sources
        return [list(read_examples(part, schemes, self.settings.limit)) for part in self.parts]

    @cached_property
    def pools(self) -> list[ShotsPool]:
        """What few-shot examples are drawn from, for each part."""
        return [shots_pool(part, installed_plugins().registry.sources) for part in self.parts]

    def asked_of(self, model: str, responder: Scorer | RegisteredResponder, folder: Path) -> AskedSuite:
        """Return the suite with its requests to a model.

        Raises UsageError where the folder holds other scores, and ModelError for a model without a chat template.
        """
        settings = self.settings
        template = chat(responder.tokenizer, model) if settings.chat_template else None
        drawn = settings.drawn
        asked = [
            each
            for part, some, pool in zip(self.parts, self.examples, self.pools, strict=True)
            for each in ask(part, some, pool, drawn["shots_sampler"], drawn["seed"], template, responder.literal)
        ]
        recorded = {
            **responder.settings,
            "data_dir": None if settings.data_dir is None else str(user_path(settings.data_dir)),
            "sources": [part.source for part in self.parts],
            "shots": [part.shots for part in self.parts],
            "cluster": settings.cluster,
            **drawn,
        }
        refuse_others(folder, {"model": responder.identity["model"], "suite": self.suite.sha256, **recorded})
        notes = notes_of(asked, self.parts, self.pools, responder.trained_rows, chat=settings.chat_template)
        return AskedSuite(self.suite, model, responder, folder, asked, recorded, notes, settings.shots)


@dataclass(frozen=True, eq=False)
class AskedSuite:
    """A suite with its requests to one model; `settings` are those that its scores record."""

    suite: LoadedSuite
    model: str
    responder: Scorer | RegisteredResponder = field(repr=False)
    folder: Path
    asked: Sequence[ExampleRequests]
    settings: Mapping[str, Any]
    notes: Sequence[str]
    shots: int | None

    def score(self, say: Callable[[str], None]) -> Scores:
        """Ask the model what its folder does not hold yet, and write the scores."""
        from gpt_tasks.scoring.results import EXAMPLES, SCORES, Scores, task_scores, write_scores

        plugins = installed_plugins()
        responder, settings, loaded, folder = self.responder, self.settings, self.suite, self.folder
        for note in self.notes if rank() == 0 else ():
            say(note)
        names = [task.name for task in loaded.tasks]
        configuration = {"model": self.model, "suite": loaded.name, "tasks": names, **settings}
        with (
            machine_errors(),
            working_in(folder),
            observed(plugins, "score", folder, configuration) as observers,
        ):
            with open_cache(folder, responder.identity, say) as cache:
                if isinstance(responder, RegisteredResponder):
                    responder.try_requests(_by_task(self.asked), cache)
                found = responder.answer([request for each in self.asked for request in each.requests], cache)
            metrics = {task.name: plugins.registry.metrics_of(task.task, task.metrics) for task in loaded.tasks}
            rows = list(_scored(self.asked, found, metrics))
            tasks = []
            for task in loaded.tasks:
                own = [row for row in rows if row.task == task.name]
                tasks.append(
                    task_scores(task.name, task.task.name, task.shots, metrics[task.name], own, cluster=task.cluster)
                )
            scores = Scores(
                suite={"name": loaded.name, "sha256": loaded.sha256},
                model={
                    "spec": self.model,
                    "fingerprint": responder.identity["model"],
                    "parameters": responder.parameters,
                },
                settings=settings if found.engine is None else {**settings, "engine_used": found.engine},
                versions=versions(),
                tasks=tuple(tasks),
                notes=(*self.notes, *found.notes, *_without_shots(loaded, self.shots), *_notes_of(tasks)),
            )
            if rank() == 0:
                write_scores(folder, scores, rows)
                report(observers, tasks, [folder / SCORES, folder / EXAMPLES])
            elif cache.path.exists():
                cache.path.unlink()  # the first process has it all by now
            barrier()
        return scores


def _scored(
    asked: Sequence[ExampleRequests], found: Responses, metrics: Mapping[str, Sequence[Metric]]
) -> Iterator[ScoredExample]:
    """Yield each example with its answers and what these contribute to its task's metrics."""
    from gpt_tasks.scoring.results import ScoredExample

    answers, cuts = iter(found.answers), iter(found.cut)
    for each in asked:
        given: list[Response] = [next(answers) for _ in each.requests]
        scored = each.scored
        prediction = scored.task.prediction(each.example, given)
        statistics = scored.task.contributions(metrics[scored.name], each.example, prediction)
        cut = max([next(cuts) for _ in each.requests])
        yield ScoredExample(scored.name, each.example, each.group, given, statistics, cut)


def _notes_of(tasks: Sequence[TaskScores]) -> list[str]:
    return [f"{task.name}: {task.note}" for task in tasks if task.note]


def _by_task(asked: Sequence[ExampleRequests]) -> dict[str, list[Request]]:
    found: dict[str, list[Request]] = {}
    for each in asked:
        found.setdefault(each.scored.name, []).extend(each.requests)
    return found


def _refuse_useless(suite: LoadedSuite, given: Mapping[str, Any]) -> None:
    """Raise UsageError for what is given of few-shot examples where a suite is scored without any."""
    takes_shots = any(task.task.takes_shots for task in suite.tasks)
    for name, value in given.items():
        if value is not None and not any(task.shots for task in suite.tasks):
            raise UsageError(
                f"--{name.replace('_', '-')} {value} is for few-shot examples, and {suite.name} is scored without any",
                "Give --shots, or leave it out." if takes_shots else "Leave it out.",
            )


def _without_shots(suite: LoadedSuite, shots: int | None) -> list[str]:
    """Return a note on the tasks that `shots` has no effect on."""
    names = [task.name for task in suite.tasks if shots and not task.task.takes_shots]
    return [f"--shots {shots} has no effect on {', '.join(names)}."] if names else []

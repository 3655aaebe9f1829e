"""Compare what `score` or `evaluate` has left in several folders, example by example: is one really better?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.evaluation.differences import comparable, is_resampled, shared, tested
from gpt_tasks.evaluation.matching import matched
from gpt_tasks.evaluation.saved_files import FILES, Kind, kinds
from gpt_tasks.evaluation.saved_results import SavedResults, SavedTask, read_results
from gpt_tasks.extensions import Metric
from gpt_tasks.files import json_safe, machine_errors, write_json
from gpt_tasks.metrics.clusters import useless_clusters
from gpt_tasks.metrics.intervals import PAIRED_RESAMPLES
from gpt_tasks.metrics.significance import holm
from gpt_tasks.paths import output_folder, user_path
from gpt_tasks.plugins import installed_plugins

SCHEMA_VERSION = 1
COMPARISON, PLOT = "comparison.json", "comparison.png"
_WRITTEN_BY = "Give folders that gpt-tasks score or gpt-tasks evaluate --output wrote, or finished runs."


@dataclass(frozen=True, slots=True)
class Contrast:
    """One metric of one task in folder `name` against the reference: `difference` is `value` - `reference`.

    [low, high] is its 95 % interval. `corrected_p_value` is Holm's over all contrasts of the comparison.
    `detectable` is the smallest true difference that n examples show with a power of 80 %. NaN where there is none.
    """

    task: str
    metric: str
    name: str
    reference: float
    value: float
    difference: float
    low: float
    high: float
    p_value: float
    corrected_p_value: float
    detectable: float
    test: str
    n: int


@dataclass(frozen=True, slots=True)
class Compared:
    """A folder under its letter; `model` is what was scored, where the folder records it."""

    name: str
    path: Path
    model: str | None


@dataclass(frozen=True)
class Comparison:
    """The first folder, which is the reference, against each other one."""

    kind: Kind
    folders: tuple[Compared, ...]
    contrasts: tuple[Contrast, ...]
    seed: int
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what comparison.json holds: JSON values only, with null for what is not a finite number."""
        whole: dict[str, Any] = json_safe(
            {
                "schema_version": SCHEMA_VERSION,
                "kind": self.kind,
                "folders": [{**asdict(folder), "path": str(folder.path)} for folder in self.folders],
                "contrasts": [asdict(contrast) for contrast in self.contrasts],
                "seed": self.seed,
                "resamples": PAIRED_RESAMPLES,
                "notes": list(self.notes),
            }
        )
        return whole


def compare(folders: Sequence[Path], *, cluster: str | None = None, seed: int | None = None) -> Comparison:
    """Compare the first folder with each other one, in every task and metric that the two share.

    Shares of examples (accuracy and the like) get McNemar's exact test; other means, perplexities, corpus scores (BLEU,
    chrF), means over groups (resampled within each), macro F1 and MCC a paired bootstrap of 10,000 resamples, drawn
    from `seed` (0); any other metric that is not a mean one of 1,000. Where examples belong together, by the field
    `cluster`, by what the reference was scored or evaluated with, or by the task's own, clusters of them are drawn, for
    shares too.

    Raises UsageError where the folders are fewer than two, one twice, not there, or of different commands, and for a
    seed where nothing is resampled; DataError
    where one is damaged, the examples of a task differ, two folders share nothing, or no task has such a field.
    """
    folders = [user_path(folder) for folder in folders]
    with machine_errors():
        kind = _kind(folders)
        saved = [read_results(folder, kind) for folder in folders]
        saved[0] = _clustered(saved[0], cluster)
        metrics = _known_metrics(saved)
        if seed is not None and not any(_draws(saved[0], other, metrics) for other in saved[1:]):
            raise UsageError(f"--seed {seed} draws resamples, and nothing here is compared by them", "Leave it out.")
        seed = seed or 0
        letters = [_letter(place) for place in range(len(saved))]
        contrasts: list[Contrast] = []
        notes: list[str] = []
        for letter, other in zip(letters[1:], saved[1:], strict=True):
            notes.extend(_notes(saved[0], other, letter, metrics, cluster))
            contrasts.extend(_contrasts(saved[0], other, letter, metrics, seed))
    corrected = holm([contrast.p_value for contrast in contrasts])
    return Comparison(
        kind=kind,
        folders=tuple(Compared(letter, each.path, each.model) for letter, each in zip(letters, saved, strict=True)),
        contrasts=tuple(
            replace(contrast, corrected_p_value=p) for contrast, p in zip(contrasts, corrected, strict=True)
        ),
        seed=seed,
        notes=tuple(dict.fromkeys(notes)),
    )


def _draws(reference: SavedResults, other: SavedResults, metrics: Mapping[str, Metric]) -> bool:
    """Return whether a metric of the two is compared by resamples."""
    pairs = [(reference.tasks[name], other.tasks[name]) for name in shared(reference.tasks, other.tasks)]
    return any(is_resampled(metric, *pair) for pair in pairs for metric in comparable(*pair, metrics))


def _known_metrics(saved: Sequence[SavedResults]) -> Mapping[str, Metric]:
    """Return the registered metrics, and those modules of evaluate which were used and can be loaded."""
    registry = installed_plugins().registry
    known = dict(registry.metrics)
    for name in {name for each in saved for task in each.tasks.values() for name in task.values} - known.keys():
        if name.startswith("evaluate:"):
            with suppress(UsageError):
                known[name] = registry.metric(name)
    return known


def _clustered(saved: SavedResults, cluster: str | None) -> SavedResults:
    """Return the results with the clusters of their examples: by the field or column that is given, or known."""
    tasks = {name: _with_clusters(task, cluster) for name, task in saved.tasks.items()}
    if cluster is not None and not any(task.cluster == cluster for task in tasks.values()):
        known = dict.fromkeys(field for task in tasks.values() for field in (*task.texts.fields, task.cluster) if field)
        again = {"score": "Score", "evaluate": "Evaluate"}[saved.kind]
        raise DataError(
            f"--cluster {cluster}: {saved.path} holds nothing of that name; it holds {', '.join(known)}",
            f"{again} both again with --cluster {cluster}.",
        )
    return replace(saved, tasks=tasks)


def _with_clusters(task: SavedTask, cluster: str | None) -> SavedTask:
    wanted = cluster or task.cluster or _own_cluster(task)
    cluster, clusters = task.cluster, task.clusters
    if wanted != cluster and wanted in task.texts.fields:
        cluster, clusters = wanted, task.texts.clusters(wanted)
    if clusters is not None and len(np.unique(clusters)) == len(clusters):
        clusters = None
    return replace(task, cluster=cluster, clusters=clusters)


def _own_cluster(task: SavedTask) -> str:
    tasks = installed_plugins().registry.tasks
    return tasks[task.task].cluster if tasks.current_name(task.task) in tasks else ""


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write comparison.json and the plot."""
    from gpt_tasks.evaluation.plots import plot_comparison

    with machine_errors(), output_folder(folder):
        plot_comparison(comparison, folder / PLOT)
        write_json(folder / COMPARISON, comparison.to_json())


def _kind(folders: Sequence[Path]) -> Kind:
    """The one command that wrote all folders."""
    if len(folders) < 2:
        raise UsageError(f"There is nothing to compare with: {len(folders)} folder given", "Give two or more.")
    places = [folder.resolve() for folder in folders]
    for place, folder in zip(places, folders, strict=True):
        if not folder.is_dir():
            raise UsageError(f"There is no folder {folder}", _WRITTEN_BY)
        if places.count(place) > 1:
            raise UsageError(f"{folder} is given twice", "Give every folder once.")
    found = {folder: kinds(folder) for folder in folders}
    for folder, its in found.items():
        if not its:
            files = ", ".join(file for pair in FILES.values() for file in pair)
            raise UsageError(f"{folder} holds none of {files}", _WRITTEN_BY)
    for kind in FILES:
        if all(kind in its for its in found.values()):
            return kind
    first, other = next((a, b) for a in folders for b in folders if not set(found[a]) & set(found[b]))
    raise UsageError(
        f"{first} holds what gpt-tasks {found[first][0]} writes, {other} what gpt-tasks {found[other][0]} writes",
        "Compare folders of one kind.",
    )


def _notes(
    reference: SavedResults, other: SavedResults, letter: str, metrics: Mapping[str, Metric], cluster: str | None
) -> Iterator[str]:
    """What a reader of the figures should know; they were to go by `cluster`."""
    if reference.suite.get("sha256") != other.suite.get("sha256"):
        yield f"The suites of A and {letter} are not the same file; the examples are."
    for there, missing, first, second in (("A", letter, reference, other), (letter, "A", other, reference)):
        only = [name for name in first.tasks if name not in second.tasks]
        if only:
            yield f"Only in {there}, not in {missing}: {', '.join(only)}."
    for name in shared(reference.tasks, other.tasks):
        ours, theirs = reference.tasks[name], other.tasks[name]
        if ours.shots != theirs.shots:
            yield f"{name}: {ours.shots} shots in A, {theirs.shots} in {letter}."
        number = len(ours.where) if ours.clusters is None else len(np.unique(ours.clusters))
        useless = useless_clusters(ours.cluster, number, len(ours.where))
        if useless is not None and (ours.clusters is not None or cluster == ours.cluster):
            yield f"{name}: {useless}"
        elif ours.clusters is not None:
            yield f"{name}: intervals and tests go by {number:,} clusters of '{ours.cluster}'."
        elif not ours.cluster and (repeated := ours.texts.note("compare with --cluster {field}.")) is not None:
            yield f"{name}: {repeated}"
        compared = comparable(ours, theirs, metrics)
        for metric in (metric for metric in compared if metric in ours.statistics):
            units = [task.statistics[metric].weights.sum() for task in (ours, theirs)]
            if not math.isclose(*units):
                yield (
                    f"{name}: {metric} is by {units[0]:,.0f} tokens in A and by {units[1]:,.0f} in {letter}: "
                    "the two are not figures of the same tokens."
                )
        left = [metric for metric in {**ours.values, **theirs.values} if metric not in compared]
        if left:
            why = [f"{metric} ({_left_out(metric, ours, theirs, letter)})" for metric in left]
            yield f"{name}: not compared: {', '.join(why)}."


def _contrasts(
    reference: SavedResults, other: SavedResults, letter: str, metrics: Mapping[str, Metric], seed: int
) -> list[Contrast]:
    found: list[Contrast] = []
    for name in shared(reference.tasks, other.tasks):
        ours, theirs = reference.tasks[name], other.tasks[name]
        order = matched(reference, other, name)
        names = comparable(ours, theirs, metrics)
        results = tested(ours, theirs, order, names, metrics, seed)
        for metric in names:
            before, value, it = ours.values[metric], theirs.values[metric], results[metric]
            found.append(
                Contrast(
                    task=name,
                    metric=metric,
                    name=letter,
                    reference=before,
                    value=value,
                    difference=value - before,
                    low=it.low,
                    high=it.high,
                    p_value=it.p_value,
                    corrected_p_value=math.nan,
                    detectable=it.detectable,
                    test=it.test,
                    n=len(ours.where),
                )
            )
    if not found:
        held = [
            "; ".join(f"{task.name}: {', '.join(task.values)}" for task in saved.tasks.values())
            for saved in (reference, other)
        ]
        raise DataError(
            f"{reference.path} ({held[0]}) and {other.path} ({held[1]}) share no metric that can be compared",
            "Score or evaluate both on the same task.",
        )
    return found


def _left_out(metric: str, ours: SavedTask, theirs: SavedTask, letter: str) -> str:
    if metric not in theirs.values:
        return "only in A"
    if metric not in ours.values:
        return f"only in {letter}"
    return "it equals accuracy" if metric == "micro_f1" else "it needs more than labels and predictions"


def _letter(place: int) -> str:
    """A to Z, then AA, AB and so on."""
    before, letter = divmod(place, 26)
    return (_letter(before - 1) if before else "") + chr(ord("A") + letter)

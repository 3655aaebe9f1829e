"""The model card: README.md of a run, written from its report and its settings."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gpt_tasks.evaluation.report import Report
from gpt_tasks.evaluation.tables import baseline_name, examples, interval, number, with_interval
from gpt_tasks.shown import LONGEST_CELL, as_json, markdown, markdown_code, quoted
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.card import TaskCard
from gpt_tasks.types import Score
from gpt_tasks.words import shortened_apart

MOST_MISTAKES = 10
HUB_METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "f1",
    "mcc": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    "exact_match": "exact_match",
    "bleu": "sacrebleu",
    "chrf": "chrf",
    "perplexity": "perplexity",
    **dict.fromkeys(("rouge1", "rouge2", "rougeL", "rougeLsum"), "rouge"),
}

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def model_card(
    report: Report,
    *,
    task: Task,
    run: str,
    backbone: str,
    method: str,
    rows: Mapping[str, int],
    settings: Mapping[str, Any],
    data: str = "the task's embedded samples",
    fields: Sequence[str] = ("text",),
    plots: Sequence[str] = (),
    referred: str = "",
    adapter: str = "",
) -> str:
    """Return the card as Markdown, with the front matter that model hubs read.

    `run` is the folder as commands should name it, `rows` how many each split holds, `settings` those of the training,
    `fields` the names of an example's texts, `plots` those of the PNG files next to the card,
    `referred` the place of a backbone that the run does not hold itself, `adapter` the folder of an adapter.
    """
    words = task.card()
    parts = [
        _front_matter(report, words, run, backbone),
        f"# {markdown(report.task)}: {markdown(backbone)}, tuned with `{method}`",
        _summary(report, words, backbone),
        markdown(report.verdict),
        "## Scores",
        _scores(report, words),
        *(["## Labels", _labels(report)] if report.labels else []),
        *(f"![{plot.removesuffix('.png').replace('_', ' ')}]({plot})" for plot in plots),
        _undrawn(report) if report.confusion_matrix and plots else "",
        *_slices(report),
        *_mistakes(report),
        *_samples(report),
        "## How to use it",
        _usage(fields, run, words, task.command),
        _holds(words, referred, adapter),
        "## Data",
        f"Read from {markdown(data)}.",
        _table(["split", "rows"], [[name, f"{count:,}"] for name, count in rows.items()]),
        *(["\n".join(f"- {markdown(note)}" for note in report.notes)] if report.notes else []),
        "## Training",
        _table(["setting", "value"], [[f"`{name}`", _setting(value)] for name, value in settings.items()]),
        _table(["measured", "value"], [[f"`{name}`", _setting(value)] for name, value in report.training.items()]),
        "## Limits",
        _limits(report, words),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _holds(words: TaskCard, referred: str, adapter: str) -> str:
    """Return what the run's folder holds of the model."""
    said = f"`model/` holds a causal language model that transformers loads directly, and {words.saved} (`task.json`)."
    if referred:
        said = (
            f"`model/` holds {words.saved} (`task.json`), but not the backbone's weights, and transformers alone "
            f"cannot open it: gpt-tasks reads them from `{markdown_code(referred)}`, and checks them by the SHA-256 in "
            "its `backbone.json`."
        )
    if adapter:
        said += (
            f" `{adapter}/` holds what the method trained of the backbone, without the head, as an adapter that peft "
            f"opens, and gpt-tasks as a model: `--backbone RUN/{adapter}`."
        )
    return said


def _front_matter(report: Report, words: TaskCard, run: str, backbone: str) -> str:
    import yaml

    figures = [
        {"type": HUB_METRICS[name], "name": name, "value": round(figure.value, 4)}
        for name, figure in report.metrics.items()
        if name in HUB_METRICS and math.isfinite(figure.value)
    ]
    kind = words.pipeline_tag
    result = {
        "task": {"type": kind},
        "dataset": {"name": f"{report.task} ({report.split})", "type": report.task, "split": report.split},
        "metrics": figures,
    }
    card = {
        "library_name": "gpt-tasks",
        "pipeline_tag": kind,
        "tags": ["gpt-tasks", report.task],
        **({"base_model": backbone.partition("@")[0]} if _HUB_ID.fullmatch(backbone.partition("@")[0]) else {}),
        "metrics": list(dict.fromkeys(figure["type"] for figure in figures)),
        "model-index": [{"name": re.split(r"[/\\]", run.rstrip("/\\"))[-1] or run, "results": [result]}],
    }
    return f"---\n{yaml.safe_dump(card, sort_keys=False, allow_unicode=True)}---"


def _summary(report: Report, words: TaskCard, backbone: str) -> str:
    name, figure = _headline(report, words)
    does = words.does.replace("{task}", f"**{markdown(report.task)}**")
    if report.labels:
        does += ": " + ", ".join(f"`{markdown_code(label)}`" for label in report.labels)
    beside = [
        f"{number(scores[name].value)} ({baseline_name(baseline)})"
        for baseline, scores in report.baselines.items()
        if name in scores
    ]
    return (
        f"A GPT (`{markdown_code(backbone)}`) that {does}. "
        f"On {examples(report.n)} of the {markdown(report.split)} split its {name} is **{number(figure.value)}** "
        f"(95 % interval {interval(figure)})" + (f", against {' and '.join(beside)}" if beside else "") + "."
    )


def _scores(report: Report, words: TaskCard) -> str:
    baselines = report.baselines
    rows = [
        [
            f"`{name}`",
            with_interval(score),
            *(with_interval(scores[name]) if name in scores else "" for scores in baselines.values()),
        ]
        for name, score in report.metrics.items()
    ]
    table = _table(["metric", "this model", *map(baseline_name, baselines)], rows)
    closing = (words.baselines if baselines else "") + _directions(report)
    return f"Over {examples(report.n)}; in brackets the 95 % interval.\n\n{table}\n\n{closing}"


def _directions(report: Report) -> str:
    """Say of which metrics a lower figure is better, and of which a higher one."""
    lower = [name for name in report.metrics if report.directions.get(name) == "lower"]
    if not lower:
        return "Higher figures are better."
    if len(lower) == len(report.metrics):
        return "Lower figures are better."
    return f"Of {', '.join(f'`{name}`' for name in lower)} a lower figure is better, of the others a higher one."


def _labels(report: Report) -> str:
    rows = [
        [
            markdown(label),
            with_interval(scores.precision),
            with_interval(scores.recall),
            with_interval(scores.f1),
            f"{scores.recall.n:,}",
        ]
        for label, scores in report.per_label.items()
    ]
    return _table(["label", "precision", "recall", "F1", "n"], rows)


def _undrawn(report: Report) -> str:
    """Name the labels that the plot of the confusion matrix calls by their places."""
    from gpt_tasks.evaluation.plots import undrawn

    named = [f"{name} is {markdown(label)}" for name, label in undrawn(report.labels).items()]
    return f"In the confusion matrix {', '.join(named)}: no installed font has their characters." if named else ""


def _slices(report: Report) -> list[str]:
    if report.slices is None:
        return []
    names = list(report.metrics)
    rows = [
        [markdown(value), f"{next(iter(scores.values())).n:,}", *(with_interval(scores[name]) for name in names)]
        for value, scores in report.slices.metrics.items()
    ]
    return [f"## By {markdown(report.slices.by)}", _table([markdown(report.slices.by), "n", *names], rows)]


def _mistakes(report: Report) -> list[str]:
    if not report.mistakes:
        return []
    rows = [
        [
            markdown(" / ".join(mistake.inputs.values())),
            markdown(mistake.label),
            f"{markdown(mistake.predicted)} ({mistake.probability:.0%})",
            markdown(mistake.where),
        ]
        for mistake in report.mistakes[:MOST_MISTAKES]
    ]
    return [
        "## Worst mistakes",
        "Those the model was surest of.",
        _table(["text", "label", "predicted", "where"], rows),
    ]


def _samples(report: Report) -> list[str]:
    if not report.samples:
        return []
    rows = [
        [markdown(" / ".join(sample.inputs.values())), *map(markdown, answers)]
        for sample in report.samples
        for answers in [shortened_apart(sample.predicted, sample.references[0], LONGEST_CELL)]
    ]
    return ["## What it answers", _table(["input", "answer", "reference"], rows)]


def _usage(fields: Sequence[str], run: str, words: TaskCard, command: str) -> str:
    folder = quoted(run)
    values = {**dict.fromkeys(fields, '"..."'), **(words.input_example or {})}
    single = len(values) == 1
    given = '"..."' if single else "{" + ", ".join(f'"{field}": {value}' for field, value in values.items()) + "}"
    asked = {"chat": "", "generate": ' "..."'}.get(command, ' "..."' if single else " --input FILE")
    if command == "predict":
        opened = as_json(json.dumps(run, ensure_ascii=False))
        python = f"import gpt_tasks\n\nrun = gpt_tasks.load({opened})\nprint(run.predict([{given}]))"
    else:
        opened = as_json(json.dumps(f"{run}/model", ensure_ascii=False))
        text = '[{"role": "user", "content": "..."}]' if command == "chat" else '"..."'
        python = f'from transformers import pipeline\n\nprint(pipeline("text-generation", {opened})({text}))'
    return (
        f"```\ngpt-tasks {command} {folder}{asked}\ngpt-tasks evaluate {folder} --data FILE\n```\n\n"
        f"```python\n{python}\n```"
    )


def _limits(report: Report, words: TaskCard) -> str:
    said = [
        *words.limits,
        "The figures hold for texts like those it was evaluated on; elsewhere, measure first (`gpt-tasks evaluate`).",
    ]
    judged = [label for label, scores in report.per_label.items() if scores.recall.n]
    if judged:
        weakest = min(judged, key=lambda label: report.per_label[label].recall.value)
        recall = report.per_label[weakest].recall
        measured = f"recall {with_interval(recall)} over {examples(recall.n)}"
        said += [f"It finds `{markdown_code(weakest)}` least often: {measured}."]
    said += ["What the backbone learnt from its own data, biases included, is still in it."]
    return "\n".join(f"- {line}" for line in said)


def _headline(report: Report, words: TaskCard) -> tuple[str, Score]:
    name = words.headline if words.headline in report.metrics else next(iter(report.metrics))
    return name, report.metrics[name]


def _setting(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{markdown(str(key))}={_setting(held)}" for key, held in value.items()) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return markdown(f"{value:g}" if isinstance(value, float) and abs(value) < 1 else str(value))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

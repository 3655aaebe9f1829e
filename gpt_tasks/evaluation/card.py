"""The model card: README.md of a run, written from its report and its settings."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from gpt_tasks.evaluation.report import AnswerKind, Report
from gpt_tasks.evaluation.tables import BASELINE_NAMES, examples, interval, number
from gpt_tasks.types import Score

MOST_MISTAKES = 10
LONGEST_TEXT = 300
LOWER = ("ece", "rmse", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")
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

_BASELINES = {
    "label": "The baselines were trained on the same rows: one always gives the most frequent label, the other is a "
    "logistic regression on TF-IDF. ",
    "labels": "The baselines were trained on the same rows: one goes by how frequent the labels are, the other is a "
    "logistic regression on TF-IDF for each of them. ",
    "number": "The baselines were trained on the same rows: one always says their mean, the other is a ridge "
    "regression on TF-IDF. ",
    "choice": "Beside it the answers that the choices' length would give. ",
    "span": "Beside it the longest run of words that question and context have in common. ",
    "text": "The answers beside the model's cost nothing. ",
}

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def model_card(
    report: Report,
    *,
    run: str,
    backbone: str,
    method: str,
    rows: Mapping[str, int],
    settings: Mapping[str, Any],
    data: str = "the task's embedded samples",
    fields: Sequence[str] = ("text",),
    plots: Sequence[str] = (),
    command: str = "predict",
) -> str:
    """Return the card as Markdown, with the front matter that model hubs read.

    `run` is the folder as commands should name it, `rows` how many each split holds, `settings` what the training was
    told, `fields` the names of an example's texts, `plots` those of the PNG files beside the card, `command` the one by
    which the run is put to use.
    """
    parts = [
        _front_matter(report, run, backbone),
        f"# {report.task}: {backbone}, tuned with `{method}`",
        _summary(report, backbone, command),
        "## Scores",
        _scores(report),
        *(["## Labels", _labels(report)] if report.labels else []),
        *(f"![{plot.removesuffix('.png').replace('_', ' ')}]({plot})" for plot in plots),
        *_slices(report),
        *_mistakes(report),
        *_samples(report),
        "## How to use it",
        _usage(fields, run, report.answers, command),
        "## Data",
        f"Read from {data}.\n\n" + _table(["split", "rows"], [[name, f"{count:,}"] for name, count in rows.items()]),
        *(["\n".join(f"- {_plain(note)}" for note in report.notes)] if report.notes else []),
        "## Training",
        _table(["setting", "value"], [[f"`{name}`", _setting(value)] for name, value in settings.items()]),
        _table(["measured", "value"], [[f"`{name}`", _setting(value)] for name, value in report.training.items()]),
        "## Limits",
        _limits(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(report: Report, run: str, backbone: str) -> str:
    import yaml

    figures = [
        {"type": HUB_METRICS[name], "name": name, "value": round(figure.value, 4)}
        for name, figure in report.metrics.items()
        if name in HUB_METRICS
    ]
    kind = {"text": "text-generation", "span": "question-answering"}.get(report.answers, "text-classification")
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


def _summary(report: Report, backbone: str, command: str) -> str:
    name, figure = _headline(report)
    does = f"answers **{_plain(report.task)}** in its own words"
    if command == "generate":
        does = "writes as the texts it was shown are written"
    others = {
        "number": "a number",
        "choice": "one of the choices that it is given",
        "span": "a stretch of the context that it is given",
    }
    if report.answers in others:
        does = f"answers **{_plain(report.task)}** with {others[report.answers]}"
    if report.labels:
        which = "one" if report.answers == "label" else "those that are right"
        does = f"answers **{_plain(report.task)}** with {which} of {len(report.labels)} labels: " + ", ".join(
            f"`{_code(label)}`" for label in report.labels
        )
    beside = [
        f"{number(scores[name].value)} ({BASELINE_NAMES.get(baseline, baseline)})"
        for baseline, scores in report.baselines.items()
        if name in scores
    ]
    return (
        f"A GPT (`{_code(backbone)}`) that {does}. "
        f"On {examples(report.n)} of the {_plain(report.split)} split its {name} is **{number(figure.value)}** "
        f"(95 % interval {interval(figure)})" + (f", against {' and '.join(beside)}" if beside else "") + "."
    )


def _scores(report: Report) -> str:
    baselines = report.baselines
    rows = [
        [
            f"`{name}`",
            _figure(figure),
            *(_figure(scores[name]) if name in scores else "" for scores in baselines.values()),
        ]
        for name, figure in report.metrics.items()
    ]
    table = _table(["metric", "this model", *(BASELINE_NAMES.get(name, name) for name in baselines)], rows)
    lower = [name for name in report.metrics if name in LOWER]
    better = f"Of {', '.join(f'`{name}`' for name in lower)} a lower figure is better"
    better += "; of the others a higher one." if len(lower) < len(report.metrics) else "."
    trained = "Beside it the backbone as it was before. " if "before" in baselines else _BASELINES[report.answers]
    closing = (trained if baselines else "") + better
    return f"Over {examples(report.n)}; in brackets the 95 % interval.\n\n{table}\n\n{closing}"


def _labels(report: Report) -> str:
    rows = [
        [_plain(label), _figure(scores.precision), _figure(scores.recall), _figure(scores.f1), f"{scores.recall.n:,}"]
        for label, scores in report.per_label.items()
    ]
    return _table(["label", "precision", "recall", "F1", "n"], rows)


def _slices(report: Report) -> list[str]:
    if report.slices is None:
        return []
    names = list(report.metrics)
    rows = [
        [_plain(value), f"{next(iter(scores.values())).n:,}", *(_figure(scores[name]) for name in names)]
        for value, scores in report.slices.metrics.items()
    ]
    return [f"## By {_plain(report.slices.by)}", _table([_plain(report.slices.by), "n", *names], rows)]


def _mistakes(report: Report) -> list[str]:
    if not report.mistakes:
        return []
    rows = [
        [
            _plain(" / ".join(mistake.inputs.values())),
            _plain(mistake.label),
            f"{_plain(mistake.predicted)} ({mistake.probability:.0%})",
            _plain(mistake.where),
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
        [_plain(" / ".join(sample.inputs.values())), _plain(sample.predicted), _plain(sample.references[0])]
        for sample in report.samples
    ]
    heads = ("## What it writes", "written") if report.answers == "text" else ("## What it answers", "answered")
    return [heads[0], _table(["asked", heads[1], "right"], rows)]


def _usage(fields: Sequence[str], run: str, answers: AnswerKind, command: str) -> str:
    folder = shlex.quote(run)
    values = {**dict.fromkeys(fields, '"..."'), **({"choices": '["...", "..."]'} if answers == "choice" else {})}
    single = len(values) == 1
    given = '"..."' if single else "{" + ", ".join(f'"{field}": {value}' for field, value in values.items()) + "}"
    asked = {"chat": "", "generate": ' "..."'}.get(command, ' "..."' if single else " --input FILE")
    if command == "predict":
        opened = json.dumps(run, ensure_ascii=False)
        python = f"import gpt_tasks\n\nrun = gpt_tasks.load({opened})\nprint(run.predict([{given}]))"
    else:
        opened = json.dumps(f"{run}/model", ensure_ascii=False)
        text = '[{"role": "user", "content": "..."}]' if command == "chat" else '"..."'
        python = f'from transformers import pipeline\n\nprint(pipeline("text-generation", {opened})({text}))'
    return (
        f"```\ngpt-tasks {command} {folder}{asked}\ngpt-tasks evaluate {folder} --data FILE\n```\n\n"
        f"```python\n{python}\n```\n\n"
        "`model/` holds a causal language model that transformers opens by itself, and beside it "
        + {
            "label": "the head (`head.safetensors`) and the task with its labels",
            "labels": "the head (`head.safetensors`) and the task with its labels",
            "number": "the head (`head.safetensors`) and the task",
            "choice": "the head (`head.safetensors`) and the task",
            "span": "the head (`head.safetensors`) and the task",
            "text": "the task",
        }[answers]
        + " (`task.json`)."
    )


def _limits(report: Report) -> str:
    known = len(report.labels)
    said = {
        "label": [f"It knows {known} labels and gives one of them to any text, also to one that fits none."],
        "labels": [f"It knows {known} labels and decides on each for itself, from one threshold for all on."],
        "number": ["It says a number of any text, also of one unlike all that it learned from."],
        "choice": ["It takes one of the choices that it is given, also where none is right."],
        "span": ["It answers by what stands in the context, whether that is true or not."],
        "text": ["It writes fluent text that can be wrong; nothing checks what it says."],
    }[report.answers]
    said += [
        "The figures hold for texts like those it was evaluated on; elsewhere, measure first (`gpt-tasks evaluate`)."
    ]
    judged = [label for label, scores in report.per_label.items() if scores.recall.n]
    if judged:
        weakest = min(judged, key=lambda label: report.per_label[label].recall.value)
        recall = report.per_label[weakest].recall
        said += [f"It finds `{_code(weakest)}` least often: recall {_figure(recall)} over {examples(recall.n)}."]
    if report.answers == "label":
        said += ["Its probabilities are those of the softmax, uncorrected; `ece` above says how far to trust them."]
    said += ["What the backbone learnt from its own data, biases included, is still in it."]
    return "\n".join(f"- {line}" for line in said)


def _headline(report: Report) -> tuple[str, Score]:
    # What is written has its perplexity first; "no answer" has figures of its own behind those of all questions.
    names = list(report.metrics)
    name = next((name for name in ("accuracy", "f1") if name in names), names[-1 if report.answers == "text" else 0])
    return name, report.metrics[name]


def _figure(figure: Score) -> str:
    return f"{number(figure.value)} {interval(figure)}"


def _setting(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{_plain(str(key))}={_setting(held)}" for key, held in value.items()) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _plain(f"{value:g}" if isinstance(value, float) and abs(value) < 1 else str(value))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Return a text on one line, at most 300 characters, that Markdown shows as it is."""
    line = " ".join(text.split())
    shown = line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 1] + "\u2026"
    return re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", shown)


def _code(text: str) -> str:
    return " ".join(text.split()).replace("`", "'").replace("|", "/")

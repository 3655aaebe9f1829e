"""Evaluate how well a language model foretells whole texts, by the requests and the engine that score suites."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gpt_tasks.backbone.load import Backbone
from gpt_tasks.errors import DataError
from gpt_tasks.evaluation.parts import Gathering, write_lines, write_parts
from gpt_tasks.evaluation.predictor import chunks
from gpt_tasks.evaluation.report import Report
from gpt_tasks.files import write_json
from gpt_tasks.processes import by_itself
from gpt_tasks.scoring.engine import BATCH_TOKENS
from gpt_tasks.scoring.scorer import Scorer
from gpt_tasks.tasks.language_modeling import LanguageModelingTask
from gpt_tasks.types import Example

# Texts are long: so many are asked about at a time.
CHUNK = 64


def evaluate_modeled(
    task: LanguageModelingTask,
    backbone: Backbone,
    examples: Iterable[Example],
    *,
    split: str,
    device: torch.device,
    precision: str,
    before: Backbone | None = None,
    training: Mapping[str, float | int | str | None] | None = None,
    notes: Sequence[str] = (),
    output: Path | None = None,
) -> Report:
    """Return the report, beside the figures of the backbone `before` it was trained; they move to device and precision.

    With `output` write metrics.json, predictions.jsonl and parts.parquet there. Raises DataError where there is no
    example.
    """
    measures = [measure for measure in task.measures if measure.name in task.metrics]
    models = {"": backbone} | ({} if before is None else {"before": before})
    scorers = {
        name: Scorer(model, device=device, precision=precision, batch_tokens=BATCH_TOKENS)
        for name, model in models.items()
    }
    found = {name: Gathering(measures) for name in models}
    where: list[str] = []

    def lines() -> Iterator[dict[str, Any]]:
        for chunk in chunks(examples, CHUNK):
            requests = [request for example in chunk for request in task.ask(example, "")]
            for name, scorer in scorers.items():
                answers = scorer.answer(requests).answers
                found[name].add(
                    [task.measure(example, [answer]) for example, answer in zip(chunk, answers, strict=True)]
                )
            where.extend(example.where for example in chunk)
            yield from ({"where": example.where, **example.inputs} for example in chunk)

    with by_itself():
        write_lines(output, lines())
    if not where:
        raise DataError(f"The {split} split is empty", "Give rows to evaluate on.")
    scores = {name: gathered.scores() for name, gathered in found.items()}
    named = measures[0].name
    if before is not None and scores[""][named].value > scores["before"][named].value:
        notes = (*notes, "It foretells these texts worse than before: lower --learning-rate, or take fewer --epochs.")
    report = Report(
        task=task.name,
        split=split,
        n=len(where),
        labels=(),
        metrics=scores[""],
        per_label={},
        confusion_matrix=(),
        baselines={name: figures for name, figures in scores.items() if name},
        training=dict(training or {}),
        notes=tuple(notes),
        answers="text",
    )
    if output is not None:
        write_parts(output, where, found[""].parts())
        write_json(output / "metrics.json", report.to_json())
    return report

"""Figures of fixed predictions are those that were recorded: a change of the code that computes them is seen.

`python tests/evaluation/test_recorded_figures.py` records them anew. When they were recorded, trainings of every family
gave the same figures, bit by bit, as version 0.1.0 before tasks and learners became protocols.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gpt_tasks.data.splits import load_splits
from gpt_tasks.evaluation.evaluate import evaluate
from gpt_tasks.evaluation.report import Report
from gpt_tasks.plugins import installed_plugins
from gpt_tasks.tasks.base import Task
from gpt_tasks.types import Example, LogLikelihood, MultiLabelPrediction, Prediction

RECORDED = Path(__file__).with_name("recorded_figures.json")
TASKS = (
    "classification",
    "dialogue",
    "entailment",
    "generation",
    "multi-label",
    "multiple-choice",
    "ner",
    "qa",
    "sentiment",
    "similarity",
    "summarization",
    "translation",
)


class Guesser:
    """Answers by chance: right, wrong, or with drawn probabilities, the same each time."""

    chunk = 7

    def __init__(self, task: Task, seed: int) -> None:
        self.task = task
        self.random = random.Random(seed)
        self.fixtures = task.fixtures()

    def predict(self, examples: Sequence[Example], *, scored: bool = False) -> list[Any]:
        return [self._answer(example, self.random.choice(examples)) for example in examples]

    def baselines(self, examples: Sequence[Example]) -> Mapping[str, Sequence[Any]]:
        return {}

    def notes(self) -> tuple[str, ...]:
        return ()

    def _answer(self, example: Example, other: Example) -> Any:
        gold, wrong = self.fixtures.gold, self.fixtures.wrong
        assert gold is not None
        right = gold(example)
        shares = [self.random.random() ** 3 for _ in getattr(right, "probabilities", ())]
        if isinstance(right, Prediction):
            chances = {label: share / sum(shares) for label, share in zip(right.probabilities, shares, strict=True)}
            return Prediction(max(chances, key=lambda label: chances[label]), chances)
        if isinstance(right, MultiLabelPrediction):
            chances = dict(zip(right.probabilities, shares, strict=True))
            return MultiLabelPrediction(tuple(label for label, chance in chances.items() if chance > 0.3), chances)
        if isinstance(right, LogLikelihood):
            return LogLikelihood(-self.random.uniform(5, 80), False, self.random.randint(5, 40))
        if isinstance(right, float):
            return right + self.random.gauss(0, 1)
        false = gold(other) if wrong is None else wrong(example)
        half = right[: len(right) // 2] if isinstance(right, str) else right
        return self.random.choice([right, half, false])


def report(name: str, folder: Path) -> Report:
    registry = installed_plugins().registry
    task = registry.tasks[name]
    splits = load_splits(task, data=None, seed=0, schemes=registry.sources, scratch=folder)
    metrics = registry.metrics_of(splits.task)
    return evaluate(Guesser(splits.task, len(name)), splits.test, split="test", metrics=metrics, output=folder / "out")


def figures(found: Report) -> dict[str, list[float | None]]:
    return {
        name: [each if math.isfinite(each) else None for each in (score.value, score.low, score.high, score.stderr)]
        for name, score in found.metrics.items()
    }


@pytest.mark.parametrize("name", TASKS)
def test_figures_of_fixed_predictions_are_those_recorded(name: str, tmp_path: Path) -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))[name]
    found = figures(report(name, tmp_path))
    assert list(found) == list(recorded)
    for metric, numbers in recorded.items():
        assert found[metric] == [None if number is None else pytest.approx(number, rel=1e-9) for number in numbers], (
            metric
        )


def record() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = {name: figures(report(name, Path(folder) / name)) for name in TASKS}
    RECORDED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()

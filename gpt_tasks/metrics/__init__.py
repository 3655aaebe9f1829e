"""The metrics that gpt-tasks brings, registered through the hook as a plugin registers its own."""

from __future__ import annotations

from collections.abc import Sequence

from gpt_tasks.extensions import Metric
from gpt_tasks.hookspecs import hookimpl
from gpt_tasks.metrics.classification import accuracy, ece, macro_f1, mcc, micro_f1

METRICS: tuple[Metric, ...] = (
    Metric("accuracy", "Share of examples that got the right label.", accuracy),
    Metric("macro_f1", "F1 of each label, averaged over the labels that occur.", macro_f1),
    Metric("micro_f1", "F1 over all decisions together; with one label an example it equals accuracy.", micro_f1),
    Metric("mcc", "Matthews correlation coefficient: 1 perfect, 0 no better than chance.", mcc),
    Metric("ece", "Expected calibration error over 15 bins of confidence; 0 is calibrated.", ece, better="lower"),
)


@hookimpl
def register_metrics() -> Sequence[Metric]:
    """Return the metrics of classification."""
    return METRICS

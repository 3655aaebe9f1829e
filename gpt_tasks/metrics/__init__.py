"""The built-in metrics, registered through the same hook as a plugin's."""

from __future__ import annotations

from collections.abc import Sequence

from gpt_tasks.extensions import Metric
from gpt_tasks.hookspecs import hookimpl
from gpt_tasks.metrics.calibration import ece, ece_interval
from gpt_tasks.metrics.classification import is_right, macro_f1, mcc
from gpt_tasks.metrics.confusion import macro_f1_interval, mcc_interval

METRICS: tuple[Metric, ...] = (
    Metric("accuracy", "Share of examples that got the right answer.", range=(0.0, 1.0), statistic=is_right),
    Metric(
        "macro_f1",
        "F1 of each label, averaged over the labels that occur.",
        range=(0.0, 1.0),
        whole=macro_f1,
        interval=macro_f1_interval,
    ),
    Metric(
        "micro_f1",
        "F1 over all decisions together; with one label an example it equals accuracy.",
        range=(0.0, 1.0),
        statistic=is_right,
    ),
    Metric(
        "mcc",
        "Matthews correlation coefficient: 1 perfect, 0 no better than chance.",
        range=(-1.0, 1.0),
        whole=mcc,
        interval=mcc_interval,
    ),
    Metric(
        "ece",
        "Expected calibration error over 15 bins of confidence; 0 is calibrated.",
        better="lower",
        range=(0.0, 1.0),
        whole=ece,
        interval=ece_interval,
    ),
)


@hookimpl
def register_metrics() -> Sequence[Metric]:
    """Return the metrics of classification."""
    return METRICS

"""A module of the `evaluate` library as a metric: its inputs are mapped from predictions and references."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from gpt_tasks.errors import UsageError
from gpt_tasks.extensions import Metric, Rows
from gpt_tasks.files import parse_json
from gpt_tasks.metrics.intervals import bootstrap_interval
from gpt_tasks.paths import user_path

if TYPE_CHECKING:
    import numpy

PREFIX = "evaluate:"

# The library does not say in which direction its modules improve. These are its own that improve downward.
LOWER_IS_BETTER = {
    "brier_score", "cer", "character", "mae", "mahalanobis", "mape", "mse", "perplexity", "smape", "ter", "wer",
}  # fmt: skip

_WHAT = "predictions, references or prediction_scores"


def metric_of_module(name: str) -> Metric:
    """Return the metric that is called `evaluate:NAME_OR_FOLDER[?SETTING=VALUE&...][#KEY]`.

    NAME is a module of the hub, FOLDER one of this machine, SETTING a keyword of its `compute`, as in `average=macro`,
    and KEY the figure to take where it returns several. Its interval is that of a bootstrap over rows. Raises
    UsageError where the module cannot be loaded, or wants what an evaluation does not have.
    """
    import evaluate

    parts = urlsplit(name.removeprefix(PREFIX))
    settings = {key: _setting(value) for key, value in parse_qsl(parts.query, keep_blank_values=True)}
    config = settings.pop("config_name", None)
    try:
        module = evaluate.load(str(user_path(parts.path)), config_name=config, keep_in_memory=True)
    except (OSError, ImportError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"The metric '{name}' cannot be loaded: {' '.join(str(error).split())}",
            "Name a module of the hub that can be reached, or the folder of one, and install what it imports.",
        ) from error
    forms = module.features if isinstance(module.features, list) else [module.features]
    unknown = sorted({field for form in forms for field in form} - {"predictions", "references", "prediction_scores"})
    if unknown or module.module_type == "comparison":
        wants = ", ".join(f"{field}: {kind}" for field, kind in forms[0].items())
        raise UsageError(
            f"The metric '{name}' wants {wants}, and an evaluation has {_WHAT}",
            "Choose another metric, or write one as a plugin.",
        )
    key = parts.fragment or None
    own = _own_name(name)

    def whole(rows: Rows) -> float:
        return _figure(name, module.compute(**_inputs(name, forms, rows), **settings), key)

    def interval(rows: Rows) -> tuple[float, float]:
        inputs = _inputs(name, forms, rows)

        def computed(chosen: numpy.ndarray) -> float:
            drawn = {field: [column[place] for place in chosen.tolist()] for field, column in inputs.items()}
            # Not `compute`, which writes and reads an Arrow table each time: that is most of the time it takes.
            return _figure(name, module._compute(**_formatted(drawn, module.format), **settings), key)

        return bootstrap_interval(computed, len(rows), clusters=rows.clusters)

    return Metric(
        name,
        " ".join(module.description.split())[:100],
        better="lower" if (key or own) in LOWER_IS_BETTER else "higher",
        whole=whole,
        interval=interval,
    )


def _setting(value: str) -> Any:
    """Read the value of a setting: JSON, or else a text."""
    try:
        return parse_json(value)
    except ValueError:
        return value


def _own_name(name: str) -> str:
    """Return a module's name, without its place and its settings."""
    return urlsplit(name.removeprefix(PREFIX)).path.rstrip("/").rpartition("/")[2]


def _inputs(name: str, forms: Sequence[Mapping[str, Any]], rows: Rows) -> dict[str, Any]:
    """Return the inputs of a module, a value for each row, in the first of its forms that the answers have."""
    refusals = []
    for form in forms:
        try:
            return {field: _column(field, kind, form, rows) for field, kind in form.items()}
        except TypeError as error:
            refusals.append(str(error))
    raise UsageError(f"The metric '{name}' does not fit the answers: {refusals[0]}", "Leave the metric out.")


def _formatted(inputs: Mapping[str, Any], form: str | None) -> Mapping[str, Any]:
    """Return inputs in the form in which `compute` would pass them on."""
    if form != "numpy":
        return inputs
    import numpy

    return {field: numpy.array(column) for field, column in inputs.items()}


def _figure(name: str, computed: Any, key: str | None) -> float:
    """Return the one number of what a module computed."""
    if isinstance(computed, int | float):
        return float(computed)
    numbers = {
        field: float(value)
        for field, value in (computed or {}).items()
        if isinstance(value, int | float) or getattr(value, "ndim", 1) == 0
    }
    if key is not None and key in numbers:
        return numbers[key]
    own = _own_name(name)
    if key is None and (len(numbers) == 1 or own in numbers):
        return numbers[own] if own in numbers else next(iter(numbers.values()))
    raise UsageError(
        f"The metric '{name}' computes {', '.join(numbers) or 'no number'}: "
        + ("which of them is not said" if key is None else f"there is no '{key}'"),
        f"Name one, as in {PREFIX}{name.removeprefix(PREFIX).partition('#')[0]}#{next(iter(numbers), 'KEY')}.",
    )


def _column(field: str, kind: Any, form: Mapping[str, Any], rows: Rows) -> Any:
    """Return an input of a module, a value for each row. Raises TypeError where the answers are of another kind."""
    read = _reader(kind, rows)
    if field == "prediction_scores" or (field == "predictions" and rows.labels and _is_float(kind)):
        return _scores(field, kind, rows)
    if field == "predictions":
        return [read(number, answer) for number, answer in enumerate(rows.predictions)]
    if _is_list(kind) and not _is_list(form["predictions"]):
        one = _reader(_item(kind), rows)
        return [[one(number, each) for each in _all(rows, right)] for number, right in enumerate(rows.references)]
    return [read(number, _only(field, kind, rows, right)) for number, right in enumerate(rows.references)]


def _all(rows: Rows, right: Any) -> Sequence[Any]:
    """Return the right answers of a row."""
    return [right] if rows.labels and not isinstance(right, tuple | list) else right


def _only(field: str, kind: Any, rows: Rows, right: Any) -> Any:
    """Return the only right answer of a row."""
    if rows.labels or "answers" in _fields(kind):
        return right
    if len(right) != 1:
        raise TypeError(f"it wants one of {field} ({_name(kind)}) for each prediction, and a row has {len(right)}")
    return right[0]


def _scores(field: str, kind: Any, rows: Rows) -> Any:
    """Return the probabilities of all labels, or of the second where there are two."""
    if rows.probabilities is None:
        raise TypeError(f"it wants probabilities as {field}, and the predictions have none")
    if _is_list(kind):
        return rows.probabilities.tolist()
    if len(rows.labels) != 2:
        raise TypeError(f"it wants one probability as {field}, and there are {len(rows.labels)} labels")
    return rows.probabilities[:, 1].tolist()


def _reader(kind: Any, rows: Rows) -> Callable[[int, Any], Any]:
    """Return the function that turns the answer of a row, by its number, into what a feature of `datasets` holds."""
    labels = {label: index for index, label in enumerate(rows.labels)}
    if _fields(kind):
        return _squad_reader(kind)
    if _is_list(kind):
        if labels and not _is_text(_item(kind)):
            return lambda _, answer: [int(label in answer) for label in labels]
        one = _reader(_item(kind), rows)
        return lambda number, answer: [one(number, each) for each in _sequence(answer, kind)]
    if _is_text(kind):
        return lambda _, answer: _text(answer, kind)
    return lambda _, answer: labels[_text(answer, kind)] if labels else _number(answer, kind)


def _squad_reader(kind: Any) -> Callable[[int, Any], Any]:
    """Return the function that gives answers and references as the modules `squad` and `squad_v2` want them."""
    fields = _fields(kind)
    if "prediction_text" in fields:
        chance = {"no_answer_probability": 0.0} if "no_answer_probability" in fields else {}
        return lambda number, answer: {"id": str(number), "prediction_text": answer, **chance}
    if "answers" in fields:
        return lambda number, right: {
            "id": str(number),
            "answers": {"text": list(right), "answer_start": [0] * len(right)},
        }
    raise TypeError(f"it wants {_name(kind)}")


def _text(answer: Any, kind: Any) -> str:
    if not isinstance(answer, str):
        raise TypeError(f"it wants {_name(kind)}, and an answer is {str(answer)[:40]!r}")
    return str(answer)


def _number(answer: Any, kind: Any) -> float:
    if isinstance(answer, str | bytes) or not isinstance(answer, int | float) or not math.isfinite(answer):
        raise TypeError(f"it wants {_name(kind)}, and an answer is {str(answer)[:40]!r}")
    return float(answer) if _is_float(kind) else int(answer)


def _sequence(answer: Any, kind: Any) -> Sequence[Any]:
    if not isinstance(answer, tuple | list):
        raise TypeError(f"it wants {_name(kind)}, and an answer is {str(answer)[:40]!r}")
    return answer


def _is_list(kind: Any) -> bool:
    return isinstance(kind, list) or (hasattr(kind, "feature") and not isinstance(kind, Mapping))


def _item(kind: Any) -> Any:
    return kind[0] if isinstance(kind, list) else kind.feature


def _is_text(kind: Any) -> bool:
    return getattr(kind, "dtype", "") in ("string", "large_string")


def _is_float(kind: Any) -> bool:
    return str(getattr(kind, "dtype", "")).startswith("float")


def _fields(kind: Any) -> Mapping[str, Any]:
    return kind if isinstance(kind, Mapping) else {}


def _name(kind: Any) -> str:
    return str(getattr(kind, "dtype", None) or kind)

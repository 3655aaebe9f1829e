"""Names of classes in place of their numbers, by what datasets writes of them into a table's schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_tasks.data.cells import plain
from gpt_tasks.errors import DataError

if TYPE_CHECKING:
    import pyarrow

# Under this key datasets describes the columns.
_FEATURES = b"huggingface"


def features_of(schema: pyarrow.Schema, path: Path) -> Mapping[str, Any]:
    """Return the features of those columns that hold numbers of classes, as datasets describes them in a file's schema.

    Raises DataError where the description is broken: numbers would pass for those of other classes.
    """
    if _FEATURES not in (schema.metadata or {}):
        return {}
    from datasets import Features

    try:
        features = with_classes(Features.from_arrow_schema(schema))
        for feature in features.values():
            _check_names(feature)
        return features
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(
            f"{path}: its metadata '{_FEATURES.decode()}', which name its classes, cannot be read: {reason}",
            "Write the file anew, with names in place of numbers or without these metadata.",
        ) from error


def with_classes(features: Mapping[str, Any]) -> dict[str, Any]:
    """Return those features that hold numbers of classes, by themselves or inside of lists and structs."""
    return {column: feature for column, feature in features.items() if _holds_classes(feature)}


def named(value: Any, feature: Any) -> Any:
    """Return a plain value, with the names of classes in place of their numbers where it has a feature."""
    return plain(value) if feature is None else _named(plain(value), feature)


def _holds_classes(feature: Any) -> bool:
    inner = _inner(feature)
    return bool(getattr(feature, "names", None)) or any(map(_holds_classes, inner))


def _check_names(feature: Any) -> None:
    names = getattr(feature, "names", None)
    if names is not None and not isinstance(names, list):
        raise TypeError(f"the names {names!r} are no list")
    for each in _inner(feature):
        _check_names(each)


def _inner(feature: Any) -> Iterable[Any]:
    if isinstance(feature, Mapping):
        return feature.values()
    if isinstance(feature, list):
        return feature
    return [feature.feature] if getattr(feature, "feature", None) is not None else []


def _named(value: Any, feature: Any) -> Any:
    """Return names for numbers; sets whose test labels are secret write -1 for them, which is no class."""
    if value is None:
        return None
    if isinstance(feature, Mapping):
        return {key: _named(each, feature[key]) if key in feature else each for key, each in value.items()}
    inner = list(_inner(feature))
    if inner:
        if isinstance(value, Mapping):  # A sequence of structs, which is stored as a struct of lists.
            return {key: [_named(each, inner[0][key]) for each in some or ()] for key, some in value.items()}
        return [_named(each, inner[0]) for each in value]
    names = getattr(feature, "names", None)
    if not names or not isinstance(value, int) or value >= len(names):
        return value
    return None if value < 0 else str(names[value])

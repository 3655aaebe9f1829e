"""Rows as annotation tools export them, Prodigy and Label Studio: their texts and what was annotated, as columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_PRODIGY = ("_input_hash", "_task_hash")
_ANNOTATIONS = ("annotations", "completions")


def is_of_a_tool(values: Mapping[str, Any]) -> bool:
    """Return whether a row is one of Prodigy's or of Label Studio's; doccano writes plain rows."""
    return _is_of_prodigy(values) or _is_of_label_studio(values)


def is_left_out(values: Mapping[str, Any]) -> bool:
    """Return whether annotators did not accept a row: they rejected, ignored or skipped it."""
    if _is_of_prodigy(values):
        return bool(values.get("answer", "accept") != "accept")
    given = _annotations(values)
    return bool(given) and all(each.get("was_cancelled") for each in given)


def read_export(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of an accepted row.

    The chosen labels are in `labels`, and in `label` where there is one; spans are in `spans`, each with its start, end
    and label. Other answers of Label Studio's (a text, a number) have the names of their fields. Both lists are empty
    where an annotator chose nothing, and missing where nobody annotated the row.
    """
    return _read_prodigy(values) if _is_of_prodigy(values) else _read_label_studio(values)


def _is_of_prodigy(values: Mapping[str, Any]) -> bool:
    return any(name in values for name in _PRODIGY)


def _is_of_label_studio(values: Mapping[str, Any]) -> bool:
    return isinstance(values.get("data"), Mapping) and any(isinstance(values.get(name), list) for name in _ANNOTATIONS)


def _read_prodigy(values: Mapping[str, Any]) -> dict[str, Any]:
    # Its tokens are objects with the positions of words; spans give the same positions in characters.
    columns = {name: value for name, value in values.items() if name != "tokens" and not name.startswith("_")}
    chosen = columns.pop("accept", None)
    if str(values.get("_view_id")).startswith(("ner", "spans")):
        # An accepted text in which nothing was marked has no entity.
        columns.setdefault("spans", [])
    return {**columns, **_labels(chosen)} if isinstance(chosen, list) else columns


def _annotations(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found: list[Any] = next((values[name] for name in _ANNOTATIONS if isinstance(values.get(name), list)), [])
    return [each for each in found if isinstance(each, Mapping)]


def _read_label_studio(values: Mapping[str, Any]) -> dict[str, Any]:
    columns = {**{name: value for name, value in values.items() if name not in ("data", *_ANNOTATIONS)}}
    columns |= values["data"]
    given = [each for each in _annotations(values) if not each.get("was_cancelled")][:1]
    results = given[0].get("result") if given else None
    labels: list[Any] = []
    spans: list[Any] = []
    for result in results if isinstance(results, list) else ():
        value = result.get("value") if isinstance(result, Mapping) else None
        if not isinstance(value, Mapping):
            continue
        if "labels" in value:
            spans.append(value)
        elif "choices" in value:
            chosen = value["choices"] if isinstance(value["choices"], list) else [value["choices"]]
            labels += [choice for choice in chosen if choice is not None]
            columns.setdefault(str(result.get("from_name")), _single(chosen))
        else:
            # A text is a list of one, a rating or a number is a value; each is under the name of its kind.
            answer = value.get(str(result.get("type")).replace("textarea", "text"))
            columns.setdefault(str(result.get("from_name")), _single(answer))
    if given:
        columns["spans"] = spans
        columns |= _labels(labels) if labels else {"labels": columns.get("labels", [])}
    return columns


def _labels(chosen: Iterable[Any]) -> dict[str, Any]:
    labels = list(chosen)
    return {"labels": labels, **({"label": labels[0]} if len(labels) == 1 else {})}


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value

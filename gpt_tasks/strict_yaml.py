"""Read YAML as what it says: numbers are decimal, only true and false are booleans, and no key is given twice.

This is the core schema of YAML 1.2 without its octal and hexadecimal numbers. PyYAML by itself reads YAML 1.1, where
`yes` is a boolean, `010` is 8 and `1:30` is 90: here all of these are texts. Tags such as `!!int` are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

MOST_NODES = 100_000
"""So many values a file may hold, those that its aliases repeat among them; a long text counts as several."""


class YamlError(ValueError):
    """A text that is no YAML, or YAML that is refused; `line` says where, from 1 on, and is 0 where nobody knows."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Parsed:
    """A file's value, and the line of each of its own keys where the value is a mapping."""

    value: Any
    lines: Mapping[str, int] = field(default_factory=dict)


def parse_yaml(text: str) -> Parsed:
    """Read one YAML document. Raises YamlError with the line of the error."""
    import yaml

    try:
        loader = _loader()(text)
    except yaml.YAMLError as error:  # of characters that no YAML can hold
        raise YamlError(" ".join(str(error).split())[:200]) from error
    try:
        root = loader.get_single_node()
        if root is None:
            return Parsed(None)
        _check(root, {}, set())
        lines = {}
        if isinstance(root, yaml.MappingNode):
            lines = {key.value: key.start_mark.line + 1 for key, _ in root.value}
        return Parsed(loader.construct_document(root), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(" ".join(str(error.problem).split()), mark.line + 1 if mark else 0) from error
    except yaml.YAMLError as error:
        raise YamlError(" ".join(str(error).split())[:200]) from error
    except RecursionError as error:
        raise YamlError("it is nested too deep") from error
    except ValueError as error:
        raise error if isinstance(error, YamlError) else YamlError(" ".join(str(error).split())[:200]) from error
    finally:
        loader.dispose()


def _check(node: Any, sizes: dict[int, int], above: set[int]) -> int:
    """Return how many values a node holds. Raises YamlError for repeated keys, and for more values than are read.

    `sizes` are those of nodes that were seen before, which an alias repeats; `above` are those that hold this one.
    """
    import yaml

    if id(node) in above:
        raise YamlError("an alias holds itself", node.start_mark.line + 1)
    if id(node) in sizes:
        return sizes[id(node)]
    above.add(id(node))
    size = 1 + len(node.value) // 100
    if isinstance(node, yaml.MappingNode):
        keys = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise YamlError("a key is no text", key.start_mark.line + 1)
            if key.value in keys:
                raise YamlError(f"{_shortened(key.value)!r} is given twice", key.start_mark.line + 1)
            keys.add(key.value)
            size += 1 + len(key.value) // 100 + _check(value, sizes, above)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_check(item, sizes, above) for item in node.value)
    if size > MOST_NODES:
        raise YamlError(f"it holds more than {MOST_NODES:,} values", node.start_mark.line + 1)
    above.discard(id(node))
    sizes[id(node)] = size
    return size


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"


def _compose_untagged(loader: Any, parent: Any, index: Any) -> Any:
    """Compose a node as PyYAML does. Raises YamlError for a tag: by one, `!!int 1_0` would be read as a number."""
    import yaml

    event = loader.peek_event()
    tag = getattr(event, "tag", None)
    if tag is not None:
        shown = tag.replace("tag:yaml.org,2002:", "!!")
        raise YamlError(f"the tag {_shortened(shown)} is not read: write the value alone", event.start_mark.line + 1)
    return yaml.SafeLoader.compose_node(loader, parent, index)


@cache
def _loader() -> Any:
    """Return PyYAML's safe loader with the types of the core schema alone."""
    import yaml

    known = {
        kind: construct
        for kind, construct in yaml.SafeLoader.yaml_constructors.items()
        if kind is None or kind.rpartition(":")[2] in ("null", "bool", "str", "seq", "map")
    }
    loader: Any = type(
        "Loader",
        (yaml.SafeLoader,),
        {"yaml_implicit_resolvers": {}, "yaml_constructors": known, "compose_node": _compose_untagged},
    )

    def number(kind: type[int] | type[float]) -> Any:
        return lambda reader, node: kind(reader.construct_scalar(node).replace(".inf", "inf").replace(".nan", "nan"))

    prefix = "tag:yaml.org,2002:"
    for name, pattern, first in (
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
        ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
        (
            "float",
            r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)|\.(inf|nan))",
            list("-+.0123456789"),
        ),
    ):
        loader.add_implicit_resolver(f"{prefix}{name}", re.compile(rf"(?:{pattern})\Z"), first)
    loader.add_constructor(f"{prefix}int", number(int))
    loader.add_constructor(f"{prefix}float", number(float))
    return loader

"""YAML is read as what it says: no boolean, octal or sexagesimal that only YAML 1.1 sees, and no key twice."""

from __future__ import annotations

import pytest

from gpt_tasks.strict_yaml import YamlError, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[
            (text, text)
            for text in ("yes", "no", "on", "off", "y", "010", "1:30", "0x10", "0o7", "1_000", "2024-01-01")
        ],
        *[("true", True), ("False", False), ("~", None), ("0", 0), ("-3", -3), ("1e-3", 0.001), (".5", 0.5)],
        ("'3'", "3"),
        ("5.", 5.0),
    ],
)
def test_types(text: str, value: object) -> None:
    found = parse_yaml(f"a: {text}").value["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "told", "line"),
    [
        ("a: 1\nb: 2\na: 3", "'a' is given twice", 3),
        ("a:\n  b: 1\n  b: 1", "'b' is given twice", 3),
        ("a: &x [*x]", "holds itself", 1),
        ("a: [1", "expected", 1),
        ("a: !!python/object:os.system x", "the tag !!python/object:os.system is not read", 1),
        ('a: 1\nb: !!int "1_0"', "the tag !!int is not read", 2),
        ("a: !!bool yes", "the tag !!bool", 1),
        ("a: !!str 5", "the tag !!str", 1),
        ("a: ! 5", "the tag !", 1),
        ("a:\n- !!float 1_0.5", "the tag !!float", 2),
        ("!!map {a: 1}", "the tag !!map", 1),
        ("!mine [1]", "the tag !mine", 1),
        ("a: &x !!int 1\nb: *x", "the tag !!int", 1),
        ("!!str a: 1", "the tag !!str", 1),
        ("a: \x00", "special characters", 0),
        ("[" * 2_000, "nested too deep", 0),
        ("a: " + "9" * 5_000, "digits", 0),
        ("? [a]\n: b", "a key is no text", 1),
        ("a: &a " + "x" * 100_000 + f"\nb: [{', '.join(['*a'] * 200)}]", "more than 100,000 values", 2),
        (
            "\n".join(
                [
                    "a: &a [x, x, x, x, x, x, x, x, x]",
                    *(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefg", "bcdefgh", strict=True)),
                ]
            ),
            "more than 100,000 values",
            6,
        ),
    ],
)
def test_what_is_refused(text: str, told: str, line: int) -> None:
    with pytest.raises(YamlError, match=told) as caught:
        parse_yaml(text)
    assert caught.value.line == line
    assert len(str(caught.value)) < 250


def test_keys_have_their_lines() -> None:
    assert parse_yaml("a: 1\n\nb:\n  c: 2\n").lines == {"a": 1, "b": 3}

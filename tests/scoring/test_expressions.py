"""Expressions of a suite's fields: those of Jinja, and none that computes for ever."""

from __future__ import annotations

import pytest

from gpt_tasks import limits
from gpt_tasks.errors import DataError, UsageError
from gpt_tasks.scoring.expressions import Fields
from gpt_tasks.types import Row

ROW = Row({"text": "a" * 60 + "b", "n": 3}, "rows.jsonl:7")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SECONDS", 0.2)


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("2 ** (2 ** 40)", "a power may have no exponent"),
        ("10 ** (10 ** 9)", "a power may have no exponent"),
        ("'x' * 99999999999", "is larger than 100,000"),
        ("(" * 3000 + "n" + ")" * 3000, "nested too deep"),
        ("n + " + "9" * 5000, "digits"),
        ("n +", "unexpected"),
    ],
)
def test_what_is_no_expression_is_told_when_it_is_read(expression: str, told: str) -> None:
    with pytest.raises(DataError, match=told) as raised:
        Fields({"question": expression}, "suite.yaml: task 'x'")
    assert raised.value.message.startswith("suite.yaml: task 'x': fields: question: ")


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("text | sub('^(a|a)*$', 'x')", "takes longer than 0.2 seconds"),
        ("range(99999) | map('string') | map('sub', '(a|aa)+$', 'x') | join | sub('(0|0?)+$', '')", "takes longer"),
    ],
)
def test_what_computes_for_ever_names_the_row_and_the_field(expression: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as raised:
        Fields({"question": expression}, "suite.yaml").of(ROW)
    assert raised.value.message.startswith("rows.jsonl:7: field 'question': ")


def test_half_a_character_is_no_text() -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:7: field 'question' cannot be computed"):
        Fields({"question": r"'\ud800'"}, "suite.yaml").of(ROW)


def test_other_expressions_are_computed() -> None:
    fields = Fields({"question": "text | sub('a+', 'x')", "choices": "[n ** 2, n * 10]"}, "suite.yaml")
    assert fields.of(ROW).values == {**ROW.values, "question": "xb", "choices": [9, 30]}

"""Patterns and templates of others end in time, in every thread, and leave nothing behind."""

from __future__ import annotations

import sys
import threading
import time

import pytest
from jinja2 import Environment
from jinja2.sandbox import SandboxedEnvironment

from gpt_tasks import limits
from gpt_tasks.limits import check_pattern, check_template, machine_memory, search, sub, time_limit

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
RECURSIVE = "{% macro f(n) %}{{ f(n - 1) ~ f(n - 1) if n }}{% endmacro %}{{ f(60) }}"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SECONDS", 0.1)


def test_a_pattern_that_looks_for_ever_ends() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"'\^\(a\|a\)\*\$' takes longer"):
        sub("^(a|a)*$", "x", "a" * 60 + "b")
    with pytest.raises(TimeoutError):
        search("(a|aa)+$", "a" * 60 + "b")
    assert sub("(a|a)*b", "x", "a" * 60) == "a" * 60
    assert time.monotonic() - began < 10


def test_patterns_are_those_of_re() -> None:
    assert sub(r"\[.*?\]", r"", "a [b] c") == "a  c"
    assert sub(r"(\w)(\d)", r"\2\1", "a1 b2") == "1a 2b"
    found = search(r"#### (\-?[0-9\.\,]+)", "so #### 1,234.5")
    assert found is not None
    assert found[1] == "1,234.5"
    assert search("x", "y") is None
    for wrong in ("(", "a{2}{3}", "(?P<a", "a" + "(" * 3000, "(?:a{65535}){65535}", "a{,99999999}"):
        with pytest.raises(ValueError, match=r".+"):
            check_pattern(wrong)


@pytest.mark.parametrize(
    "source",
    [
        "10 ** (10 ** 9)",
        "2 ** (2 ** 40)",
        "((2 ** 60) ** 60) ** 60",
        "x ** y",
        "'a' * 10000000000",
        "1000 * (1000 * (1000 * 'a'))",
        "'a'.ljust(9999999999)",
        "'a' | center(10000000000)",
        "'a' | center(10 ** 9)",
        "1000 * x }}{{ 1000 * y",
    ],
)
def test_numbers_and_texts_without_bounds_are_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"larger than|exponent"):
        check_template(Environment().parse(f"{{{{ {source} }}}}"))


@pytest.mark.parametrize("source", ["x ** 2", "id == 123456789", "100 * score", "loop.index0 % 2", "'-' * 40"])
def test_what_templates_compute_is_not(source: str) -> None:
    check_template(Environment().parse(f"{{{{ {source} }}}}"))


@pytest.mark.parametrize("source", [ENDLESS, RECURSIVE])
def test_a_template_that_loops_ends_in_any_thread_and_leaves_no_trace(source: str) -> None:
    template = SandboxedEnvironment().from_string(source)
    ended = []

    def render() -> None:
        before = sys.gettrace()
        with pytest.raises(TimeoutError, match=r"longer than 0\.1 seconds"), time_limit(0.1):
            template.render()
        ended.append(sys.gettrace() is before)

    render()
    threads = [threading.Thread(target=render) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert ended == [True] * 3


def test_memory_is_a_number_of_bytes() -> None:
    assert machine_memory() > 1e8

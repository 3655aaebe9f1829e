"""Names lead to what was registered under them, or to an error that says what to do."""

from __future__ import annotations

import pytest

from gpt_tasks.errors import PluginError, UsageError
from gpt_tasks.registry import Registries, Registry


@pytest.fixture
def methods() -> Registry[int]:
    table: Registry[int] = Registry("method")
    table.add("full", 1, owner="methods")
    table.add("lora", 2, owner="methods")
    return table


def test_a_name_leads_to_what_was_added(methods) -> None:
    assert methods["lora"] == 2
    assert methods.owner("lora") == "methods"
    assert list(methods) == ["full", "lora"]
    assert dict(methods) == {"full": 1, "lora": 2}


def test_a_taken_name_is_refused_and_its_owner_is_unchanged(methods) -> None:
    with pytest.raises(ValueError, match="the method name 'lora' is taken by methods"):
        methods.add("lora", 3, owner="acme")
    assert methods["lora"] == 2


@pytest.mark.parametrize(("typo", "meant"), [("lorra", "lora"), ("ful", "full"), ("LORA", "lora")])
def test_a_misspelt_name_is_met_with_the_one_meant(methods, typo, meant) -> None:
    with pytest.raises(UsageError) as raised:
        methods[typo]
    assert raised.value.message == f"There is no method '{typo}'"
    assert raised.value.hint == f"Did you mean '{meant}'?"


def test_a_name_like_none_is_met_with_all_there_are(methods) -> None:
    with pytest.raises(UsageError) as raised:
        methods["quantum"]
    assert raised.value.hint == "There are: full, lora."


def test_a_lost_name_fails_with_the_cause_and_counts_as_absent(methods) -> None:
    methods.mark_unavailable("dora", "plugin 'dora' failed to load: no luck", "Fix it.")
    assert "dora" not in methods
    assert methods.get("full") == 1
    with pytest.raises(
        PluginError, match="The method 'dora' is not available: plugin 'dora' failed to load: no luck"
    ) as raised:
        methods["dora"]
    assert raised.value.hint == "Fix it."
    with pytest.raises(PluginError):
        methods.owner("dora")


def test_a_lost_name_does_not_hide_what_is_there(methods) -> None:
    methods.mark_unavailable("full", "another plugin wanted it", "Fix it.")
    assert methods["full"] == 1


def test_every_kind_says_its_name() -> None:
    for table in vars(Registries()).values():
        with pytest.raises(UsageError, match=f"There is no {table.kind} 'x'"):
            table["x"]

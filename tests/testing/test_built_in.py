"""Every built-in task is a good citizen, and what does not apply to it is reported."""

from __future__ import annotations

from importlib import metadata

import pytest

from gpt_tasks.plugins import GROUP, load_plugins
from gpt_tasks.testing import check_task

REGISTRY = load_plugins(
    point for point in metadata.entry_points(group=GROUP) if point.module.startswith("gpt_tasks")
).registry
TRAINS_NOTHING = {
    "prompt_is_not_learned",
    "target_survives_truncation",
    "loss_is_finite",
    "padding_changes_no_logit",
    "intended_weights_move",
    "saved_model_answers_alike",
    "answers_are_written",
    "overfits_four_examples",
    "same_seed_same_result",
}
HAS_A_HEAD = {"prompt_is_not_learned"}
# What has no meaning for a task, by its name.
SKIPPED = {
    "classification": HAS_A_HEAD,
    "cloze": {"samples_fit", *TRAINS_NOTHING},
    "dialogue": set(),
    "entailment": HAS_A_HEAD,
    "generation": {"target_does_not_leak", "prompt_is_not_learned"},
    "language-modeling": {"samples_fit", "target_does_not_leak", *TRAINS_NOTHING},
    "multiple-choice": HAS_A_HEAD,
    "ner": HAS_A_HEAD,
    "qa": HAS_A_HEAD,
    "sentiment": HAS_A_HEAD,
    "similarity": {*HAS_A_HEAD, "zero_shot_works"},
    "summarization": set(),
    "multi-label": {*HAS_A_HEAD, "zero_shot_works"},
    "text-to-text": {"samples_fit"},
    "translation": set(),
}


@pytest.mark.parametrize("name", sorted(REGISTRY.tasks))
def test_a_built_in_task_passes_every_check_that_has_a_meaning_for_it(name) -> None:
    results = check_task(REGISTRY.tasks[name])
    assert [result for result in results if result.status not in ("passed", "skipped")] == []
    assert {result.name for result in results if result.status == "skipped"} == SKIPPED[name]
    assert all(result.message for result in results if result.status == "skipped")

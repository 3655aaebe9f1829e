"""All checks, in the order in which they are run."""

from __future__ import annotations

from gpt_tasks.testing import answer_checks as answers
from gpt_tasks.testing import encoding_checks as encoding
from gpt_tasks.testing import model_checks as models
from gpt_tasks.testing import reading_checks as reading
from gpt_tasks.testing import zero_shot_checks as zero_shot
from gpt_tasks.testing.checks import Check

_READ = ("names_what_exists", "uses_no_network", "samples_fit")
_ENCODED = (*_READ, "encoding_is_deterministic")
_BUILT = (*_ENCODED, "loss_is_finite")

CHECKS: tuple[Check, ...] = (
    Check("imports_no_torch", "No command shall wait for a library that it does not need.", reading.imports_no_torch),
    Check("uses_no_network", "A task works where there is no network.", reading.uses_no_network),
    Check(
        "names_what_exists",
        "The head, the metrics and the fields that a task names are there.",
        reading.names_what_exists,
    ),
    Check(
        "samples_fit",
        "The samples show what data look like, and are what a first run trains on.",
        reading.samples_fit,
        ("uses_no_network",),
    ),
    Check(
        "encoding_is_deterministic",
        "The same row is the same example, with the same tokens.",
        encoding.encoding_is_deterministic,
        _READ,
    ),
    Check(
        "target_does_not_leak",
        "A model that is shown the right answer learns nothing.",
        encoding.target_does_not_leak,
        _ENCODED,
    ),
    Check(
        "prompt_is_not_learned",
        "A model that writes learns answers and their ends, and not the prompt.",
        encoding.prompt_is_not_learned,
        _ENCODED,
    ),
    Check(
        "target_survives_truncation",
        "In examples that are too long the texts are cut, not the answer or the prompt.",
        encoding.target_survives_truncation,
        (*_ENCODED, "prompt_is_not_learned"),
    ),
    Check(
        "state_survives_json",
        "A restored task has the state that it was fitted with.",
        reading.state_survives_json,
        _READ,
    ),
    Check(
        "decoding_survives_anything",
        "Models answer all sorts of things; none may end an evaluation.",
        answers.decoding_survives_anything,
        _READ,
    ),
    Check(
        "gold_answers_score_best",
        "A right answer counts as right.",
        answers.gold_answers_score_best,
        (*_READ, "decoding_survives_anything"),
    ),
    Check(
        "zero_shot_works",
        "A model can be scored before any training, with few-shot examples and without.",
        zero_shot.zero_shot_works,
        (*_READ, "decoding_survives_anything"),
    ),
    Check(
        "loss_is_finite",
        "A model can be built for the task and has something to learn.",
        models.loss_is_finite,
        _ENCODED,
    ),
    Check(
        "padding_changes_no_logit",
        "What is computed of an example depends on no other example.",
        models.padding_changes_no_logit,
        _BUILT,
    ),
    Check(
        "intended_weights_move",
        "A method trains the weights that it says, and a head all its weights.",
        models.intended_weights_move,
        _BUILT,
    ),
    Check(
        "saved_model_answers_alike",
        "A model that is saved and loaded is the same model.",
        models.saved_model_answers_alike,
        (*_BUILT, "state_survives_json"),
    ),
    Check(
        "answers_are_written",
        "What a model answers can be evaluated, written, shown and compared.",
        models.answers_are_written,
        (*_BUILT, "decoding_survives_anything"),
    ),
    Check(
        "overfits_four_examples",
        "A task that cannot be overfitted cannot be learned.",
        models.overfits_four_examples,
        (*_BUILT, "padding_changes_no_logit", "intended_weights_move"),
    ),
    Check(
        "same_seed_same_result",
        "A run can be repeated.",
        models.same_seed_same_result,
        _BUILT,
    ),
)
"""Every check comes after those that it needs."""

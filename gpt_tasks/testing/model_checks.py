"""Checks of a task joined with the backbone of the checks: what it computes, trains and saves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from gpt_tasks.tasks.encoding import pad_token
from gpt_tasks.testing.checks import CheckError, require
from gpt_tasks.testing.fixture import TaskFixture, needs_training
from gpt_tasks.testing.tokens import are_alike

if TYPE_CHECKING:
    import numpy
    from torch import Tensor, nn

    from gpt_tasks.training.session import Session
    from gpt_tasks.types import Features

MOST_UPDATES = 400
UPDATES_OF_A_SEED = 3
LEARNED = 0.2
"""The share of its first loss that a model must come down to."""
_RATE = 1e-2
_TOLERANCE = 1e-4


def loss_is_finite(fixture: TaskFixture) -> None:
    """Build the model and compute the loss of four examples."""
    import torch

    session = fixture.session
    with torch.no_grad():
        outputs = session.learner.model(**_batch(session))
    loss = float(outputs["loss"])
    require(
        math.isfinite(loss),
        f"The loss of four examples is {loss}. The head must return finite logits for every real token.",
    )


def padding_changes_no_logit(fixture: TaskFixture) -> None:
    """Compare what is computed of examples alone, and in a batch that is padded on either side."""
    import numpy as np

    needs_training(fixture.task)
    learner, examples = fixture.learner, fixture.examples
    assert learner is not None
    for order in (examples, examples[::-1]):
        together = learner.encode(order)
        apart = [each for example in order for each in learner.encode([example])]
        require(
            are_alike(together, apart),
            "Examples are encoded differently next to others. encode() must treat each separately.",
        )
    session = fixture.session
    features = _features(session)
    alone = [_computed(session, [feature], "right")[0] for feature in features]
    sides: tuple[Literal["right", "left"], ...] = ("right", "left")
    for side in sides:
        for single, shared in zip(alone, _computed(session, features, side), strict=True):
            require(
                np.allclose(single, shared, atol=_TOLERANCE, rtol=_TOLERANCE),
                f"Logits differ by {np.abs(single - shared).max():.2g} in a batch that is padded on the {side}. The "
                "head must read hidden states by the attention mask, and each row separately.",
            )


def intended_weights_move(fixture: TaskFixture) -> None:
    """Compute gradients by each method, and see which weights have one."""
    needs_training(fixture.task)
    _gradients(fixture, "full")
    if fixture.task.head is not None and _fits_frozen(fixture):
        _gradients(fixture, "head")


def saved_model_answers_alike(fixture: TaskFixture) -> None:
    """Save the model, load it with the task's state, and compare what both compute."""
    import numpy as np

    from gpt_tasks.heads.saved import load_model
    from gpt_tasks.training.results import save

    session = fixture.session
    features = _features(session)
    save(session)
    saved = load_model(session.folder.model, fixture.plugins.registry.heads)
    task = fixture.task.restored(saved.record.state).resolved()
    restored: Any = type(session.learner)(task, saved.backbone, session.learner.settings)
    restored.model = restored.join(saved.transformer, saved.head).eval()
    require(
        are_alike(restored.encode(fixture.examples), session.learner.encode(fixture.examples)),
        "A restored task encodes differently. Return from state() what encode() reads.",
    )
    models = (session.learner.model, restored.model)
    found = (_computed(session, features, "right", model) for model in models)
    for one, other in zip(*found, strict=True):
        require(
            np.allclose(one, other, atol=_TOLERANCE, rtol=_TOLERANCE),
            f"A model that is saved and loaded computes differently, by {np.abs(one - other).max():.2g}. What a head "
            "draws or learns must be a parameter, or a buffer that is persistent.",
        )


def overfits_four_examples(fixture: TaskFixture) -> None:
    """Train on four examples until they are overfitted."""
    session = fixture.new_session()
    batch = _batch(session)
    first = _loss(session, batch)
    with _learning(session, batch, dropout=False) as update:
        for number in range(1, MOST_UPDATES + 1):
            update()
            if number % 10 == 0 and _loss(session, batch) < LEARNED * first:
                return
    raise CheckError(
        f"After {MOST_UPDATES} updates on four examples the loss is {_loss(session, batch):.3g}, and at first it was "
        f"{first:.3g}. The prompt must hold the texts in which examples differ, and the head must read what they say."
    )


def answers_are_written(fixture: TaskFixture) -> None:
    """Evaluate the model on the examples, write what it answers, and read it back."""
    from gpt_tasks.evaluation.evaluate import evaluate
    from gpt_tasks.evaluation.saved_results import read_results

    needs_training(fixture.task)
    session, folder = fixture.session, fixture.scratch / "evaluation"
    learner, task = session.learner, session.task
    learner.model.eval()
    learner.fit_baselines(session.splits.train, session.splits.validation)
    metrics = learner.report_metrics(fixture.plugins.registry.metrics_of(task))
    report = evaluate(learner, fixture.examples, split="test", metrics=metrics, output=folder)
    missing = [metric.name for metric in metrics if metric.name not in report.metrics]
    require(not missing, f"The report has no figure of '{', '.join(missing)}'. score() must contribute to each metric.")
    for example, prediction in zip(fixture.examples, learner.predict(fixture.examples, scored=True), strict=True):
        cells = task.table_row("A text.", prediction)
        require(
            all(isinstance(cell, str) for cell in cells.values()), f"table_row() returns {dict(cells)}. Return texts."
        )
        require(
            set(task.record(example)) <= set(task.line(example, prediction)),
            f"line() leaves out {set(task.record(example)) - set(task.line(example, prediction))} of the inputs.",
        )
    (saved,) = read_results(folder, "evaluate").tasks.values()
    require(saved.values.keys() == report.metrics.keys(), "metrics.json holds other metrics than the report.")


def same_seed_same_result(fixture: TaskFixture) -> None:
    """Train twice with the same seed, and compare the weights before and after."""
    sessions = [fixture.new_session() for _ in range(2)]
    _are_equal(sessions, "drawn")
    for session in sessions:
        with _learning(session, _batch(session), dropout=True) as update:
            for _ in range(UPDATES_OF_A_SEED):
                update()
    _are_equal(sessions, "trained")


def _fits_frozen(fixture: TaskFixture) -> bool:
    """Return whether the learner can fit a head on a frozen backbone."""
    from gpt_tasks.learners.base import Learner

    return getattr(type(fixture.learner), "fit_frozen", None) is not Learner.fit_frozen


def _are_equal(sessions: Sequence[Session], how: str) -> None:
    import torch

    first, second = (session.learner.model.state_dict() for session in sessions)
    for name, tensor in first.items():
        require(
            torch.equal(tensor, second[name]),
            f"With the same seed the weight '{name}' is {how} differently the second time. Draw weights and noise by "
            "torch's own generator, which the seed sets; let nothing follow from the clock or a set's order.",
        )


@contextmanager
def _learning(session: Session, batch: dict[str, Tensor], *, dropout: bool) -> Iterator[Any]:
    """Give a function that moves the weights once, with what the seed draws."""
    import torch
    from transformers import set_seed

    set_seed(session.settings.seed)
    session.learner.model.train(dropout)
    moving = [parameter for parameter in session.learner.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(moving, lr=_RATE)

    def update() -> None:
        optimizer.zero_grad()
        session.learner.model(**batch)["loss"].backward()
        optimizer.step()

    yield update
    session.learner.model.eval()


def _gradients(fixture: TaskFixture, method: str) -> None:
    session = fixture.session if method == "full" else fixture.new_session(method)
    model: Any = session.learner.model
    model.zero_grad()
    model(**_batch(session))["loss"].backward()
    frozen = session.method.frozen
    for name, parameter in model.named_parameters():
        moves = not (frozen and name.startswith("backbone."))
        require(
            (parameter.grad is not None) == moves,
            f"By --method {method} the weight '{name}' gets {'no' if moves else 'a'} gradient. "
            + ("Use it, or take it out of the head." if moves else "The head must not unfreeze the backbone."),
        )
    for part in ("head", *(() if frozen else ("backbone",))):
        module: nn.Module | None = getattr(model, part, None)
        if module is not None and any(True for _ in module.parameters()):
            require(
                any(bool(weight.grad.any()) for weight in module.parameters() if weight.grad is not None),
                f"By --method {method} every gradient of the {part} is 0. The loss must follow from what the {part} "
                "computes: detach nothing.",
            )


def _features(session: Session) -> list[Features]:
    train = session.encoded(session.splits.train, "train")
    return train.__getitems__(range(len(train)))


def _batch(session: Session) -> dict[str, Tensor]:
    return _collated(session, _features(session), "right")


def _collated(session: Session, features: Sequence[Features], side: Literal["right", "left"]) -> dict[str, Tensor]:
    from gpt_tasks.data.batches import collate

    return collate(features, pad_token_id=pad_token(session.backbone.tokenizer), padding_side=side)


def _loss(session: Session, batch: dict[str, Tensor]) -> float:
    import torch

    with torch.no_grad():
        return float(session.learner.model(**batch)["loss"])


def _computed(
    session: Session, features: Sequence[Features], side: Literal["right", "left"], model: Any = None
) -> list[numpy.ndarray]:
    """Return what a model, the session's by default, computes of each example, as its learner reduces it."""
    import numpy as np
    import torch

    learner = session.learner
    model = (learner.model if model is None else model).eval()
    batch = _collated(session, features, side)
    if not learner.labels_are_tokens:
        batch.pop("labels", None)
    with torch.no_grad():
        found = learner.reduce(batch, learner.compute(model, batch))
    return [np.atleast_1d(each) for each in found]

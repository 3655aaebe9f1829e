"""Checks of a task joined with the backbone of the checks: what it computes, trains and keeps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from gpt_tasks.tasks.span import SpanTask
from gpt_tasks.testing.checks import CheckError, require
from gpt_tasks.testing.fixture import TaskFixture
from gpt_tasks.testing.tokens import encodings, needs_training

if TYPE_CHECKING:
    import numpy
    from torch import Tensor, nn

    from gpt_tasks.heads.saved import SavedModel
    from gpt_tasks.training.session import Session

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
        outputs = session.model(**_batch(session))
    loss = float(outputs["loss"])
    require(
        math.isfinite(loss),
        f"The loss of four examples is {loss}. The head must return finite logits for every real token.",
    )


def padding_changes_no_logit(fixture: TaskFixture) -> None:
    """Compare what is computed of examples alone, and in a batch that is padded on either side."""
    import numpy as np

    task, examples = fixture.fitted, fixture.examples
    needs_training(task)
    for order in (examples, examples[::-1]):
        together = encodings(task, order, fixture.tokenizer)
        apart = [each for example in order for each in encodings(task, [example], fixture.tokenizer)]
        require(together == apart, "Examples are encoded otherwise beside others. encode() must take each by itself.")
    session = fixture.session
    features = _features(session)
    alone = [_computed(session, [feature], "right")[0] for feature in features]
    sides: tuple[Literal["right", "left"], ...] = ("right", "left")
    for side in sides:
        for single, shared in zip(alone, _computed(session, features, side), strict=True):
            require(
                np.allclose(single, shared, atol=_TOLERANCE, rtol=_TOLERANCE),
                f"Logits differ by {np.abs(single - shared).max():.2g} in a batch that is padded on the {side}. The "
                "head must read hidden states by the attention mask, and each row by itself.",
            )


def intended_weights_move(fixture: TaskFixture) -> None:
    """Compute gradients by each method, and see which weights have one."""
    needs_training(fixture.task)
    _gradients(fixture, "full")
    if fixture.task.head is None:
        return
    _gradients(fixture, "head")


def saved_model_answers_alike(fixture: TaskFixture) -> None:
    """Save the model, load it with the task's state, and compare what both compute."""
    import numpy as np

    from gpt_tasks.heads.saved import load_model

    session = fixture.session
    features = _features(session)
    _save(session)
    saved = load_model(session.folder.model, fixture.plugins.registry.heads)
    restored = fixture.task.restored(saved.record.state)
    tokenizer = saved.backbone.tokenizer
    require(
        encodings(restored, fixture.examples, tokenizer, session.settings.max_length)
        == encodings(session.task, fixture.examples, session.backbone.tokenizer, session.settings.max_length),
        "A restored task encodes otherwise. Return from state() what encode() reads.",
    )
    found = (_computed(session, features, "right", model) for model in (session.model, _joined(saved, fixture)))
    for one, other in zip(*found, strict=True):
        require(
            np.allclose(one, other, atol=_TOLERANCE, rtol=_TOLERANCE),
            f"A model that is saved and loaded computes otherwise, by {np.abs(one - other).max():.2g}. What a head "
            "draws or learns must be a parameter, or a buffer that is persistent.",
        )


def overfits_four_examples(fixture: TaskFixture) -> None:
    """Train on four examples until they are known by heart."""
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


def same_seed_same_result(fixture: TaskFixture) -> None:
    """Train twice with the same seed, and compare the weights before and after."""
    sessions = [fixture.new_session() for _ in range(2)]
    _are_equal(sessions, "drawn")
    for session in sessions:
        with _learning(session, _batch(session), dropout=True) as update:
            for _ in range(UPDATES_OF_A_SEED):
                update()
    _are_equal(sessions, "trained")


def _are_equal(sessions: Sequence[Session], how: str) -> None:
    import torch

    first, second = (session.model.state_dict() for session in sessions)
    for name, tensor in first.items():
        require(
            torch.equal(tensor, second[name]),
            f"With the same seed the weight '{name}' is {how} otherwise the second time. Draw weights and noise by "
            "torch's own generator, which the seed sets; let nothing follow from the clock or a set's order.",
        )


@contextmanager
def _learning(session: Session, batch: dict[str, Tensor], *, dropout: bool) -> Iterator[Any]:
    """Give a function that moves the weights once, with what the seed draws."""
    import torch
    from transformers import set_seed

    set_seed(session.settings.seed)
    session.model.train(dropout)
    moving = [parameter for parameter in session.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(moving, lr=_RATE)

    def update() -> None:
        optimizer.zero_grad()
        session.model(**batch)["loss"].backward()
        optimizer.step()

    yield update
    session.model.eval()


def _gradients(fixture: TaskFixture, method: str) -> None:
    session = fixture.session if method == "full" else fixture.new_session(method)
    model: Any = session.model
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


def _features(session: Session) -> list[dict[str, Any]]:
    train = session.encoded(session.splits.train, "train")
    return train.__getitems__(range(len(train)))


def _batch(session: Session) -> dict[str, Tensor]:
    return _collated(session, _features(session), "right")


def _collated(
    session: Session, features: Sequence[dict[str, Any]], side: Literal["right", "left"]
) -> dict[str, Tensor]:
    from gpt_tasks.data.batches import collate

    return collate(features, pad_token_id=int(session.backbone.tokenizer.pad_token_id), padding_side=side)


def _loss(session: Session, batch: dict[str, Tensor]) -> float:
    import torch

    with torch.no_grad():
        return float(session.model(**batch)["loss"])


def _computed(
    session: Session, features: Sequence[dict[str, Any]], side: Literal["right", "left"], model: Any = None
) -> list[numpy.ndarray]:
    """Return what a model, the session's by default, computes of each example: logits, or nats of what it foretells."""
    import torch

    model = (session.model if model is None else model).eval()
    batch = _collated(session, features, side)
    with torch.no_grad():
        if session.task.head is None:
            return [row.numpy() for row in model.nats(**batch)[:, None]]
        logits = model(**{name: values for name, values in batch.items() if name != "labels"})["logits"]
    if not isinstance(session.task, SpanTask):
        # Choices that an example has not are minus infinity.
        return [row[torch.isfinite(row)].numpy() for row in logits]
    return [row[mask.bool()].numpy() for row, mask in zip(logits, batch["attention_mask"], strict=True)]


def _save(session: Any) -> None:
    from gpt_tasks.training.headed import save_head

    if isinstance(session.task, SpanTask):
        save_head(session, session.plugins.registry.heads[session.task.head], 2)
    else:
        session.save()


def _joined(saved: SavedModel, fixture: TaskFixture) -> Any:
    from gpt_tasks.heads.language_model import LanguageModel
    from gpt_tasks.heads.model import TaskModel

    task: Any = fixture.task
    backbone: Any = saved.backbone.model
    if saved.head is None:
        return LanguageModel(backbone.base_model, backbone)
    return TaskModel(backbone.base_model, saved.head, loss=task.loss)

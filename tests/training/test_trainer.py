"""The training step: what an update weighs, what happens out of memory, when it stops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gpt_tasks.backbone.load import load_backbone
from gpt_tasks.data.encoded import EncodedExamples, store_features
from gpt_tasks.errors import MachineError
from gpt_tasks.heads.sequence import SequenceHead
from gpt_tasks.learners.base import LearnerSettings
from gpt_tasks.learners.labels import ClassificationLearner
from gpt_tasks.tasks.classification import ClassificationTask
from gpt_tasks.training.settings import Settings
from gpt_tasks.training.trainer import LearnerTrainer, updates_per_epoch
from gpt_tasks.types import Example

SETTINGS = Settings(
    epochs=1,
    learning_rate=0.01,
    warmup=0,
    weight_decay=0,
    batch_tokens=16,
    accumulate=1,
    max_length=64,
    patience=None,
    best_by="loss",
    best_is_lowest=True,
    class_weights="none",
    lm_weight=0.0,
    gradient_checkpointing=False,
    checkpoint_steps=None,
    precision="float32",
    device="cpu",
    seed=0,
    layer_lr_decay=None,
    optimizer="adamw_torch_fused",
    freeze_layers=None,
    load_in=None,
    method_options={},
    counts=False,
)


def new_learner(folder: Path, head: type[SequenceHead] = SequenceHead, max_tokens: int = 64) -> ClassificationLearner:
    """The tiny backbone with a new head, without dropout, so that batches can be compared."""
    task = ClassificationTask()
    task.labels = ("a", "b")
    torch.manual_seed(0)
    backbone = load_backbone(str(folder), {})
    learner = ClassificationLearner(task, backbone, LearnerSettings(64, max_tokens, "float32", torch.device("cpu")))
    learner.model = learner.join(backbone.model.base_model, head(16, 2))
    for module in learner.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return learner


@pytest.fixture
def encoded(tmp_path: Path, tiny_backbone_folder: Path) -> EncodedExamples:
    texts = ["good", "bad", "very good indeed", "rather bad", "a good one", "no", "yes", "not at all good"]
    examples = [Example({"text": text}, "ab"[index % 2], f"row {index}") for index, text in enumerate(texts)]
    return store_features([new_learner(tiny_backbone_folder).encode(examples)], tmp_path)


def trained(
    learner: ClassificationLearner, encoded: EncodedExamples, folder: Path, resume: str | None = None, **settings: Any
) -> tuple[LearnerTrainer, torch.Tensor]:
    validate = settings.pop("validate", lambda: {"loss": 1.0})
    trainer = LearnerTrainer(
        learner,
        replace(SETTINGS, **settings),
        train=encoded,
        validation=encoded,
        validate=validate,
        checkpoints=folder,
        callbacks=[],
    )
    trainer.train(resume)
    return trainer, flat(learner)


def flat(learner: ClassificationLearner) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in learner.model.parameters()])


def test_accumulated_batches_make_the_same_update_as_one_batch(
    encoded: EncodedExamples, tiny_backbone_folder: Path, tmp_path: Path
) -> None:
    batches = updates_per_epoch(encoded, SETTINGS, new_learner(tiny_backbone_folder))
    assert batches > 2
    _, whole = trained(new_learner(tiny_backbone_folder), encoded, tmp_path / "whole", batch_tokens=10_000)
    trainer, parts = trained(new_learner(tiny_backbone_folder), encoded, tmp_path / "parts", accumulate=batches)
    assert trainer.state.global_step == 1
    # Adam divides by the gradient's size, so that rounding shows in weights whose gradient is nearly zero.
    torch.testing.assert_close(parts, whole, atol=2e-4, rtol=0)
    assert (whole - flat(new_learner(tiny_backbone_folder))).abs().max() > 5e-3, "the update moved the weights"


class GreedyHead(SequenceHead):
    """A head that fits no more than two examples into its memory while it learns."""

    def forward(self, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        if self.training and len(hidden) > 2:
            raise torch.OutOfMemoryError("not enough memory for more than two")
        return super().forward(hidden, attention_mask)


def test_out_of_memory_halves_the_budget_and_changes_no_gradient(
    encoded: EncodedExamples, tiny_backbone_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = {"batch_tokens": 120, "accumulate": 2}
    trainer, halved = trained(new_learner(tiny_backbone_folder, GreedyHead), encoded, tmp_path / "halved", **budget)
    assert trainer.pieces >= 2
    assert "half a batch at a time" in capsys.readouterr().err
    _, whole = trained(new_learner(tiny_backbone_folder), encoded, tmp_path / "whole", **budget)
    torch.testing.assert_close(halved, whole, atol=2e-4, rtol=0)


class HopelessHead(SequenceHead):
    """A head that fits nothing into its memory while it learns."""

    def forward(self, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise torch.OutOfMemoryError("not enough memory for anything")
        return super().forward(hidden, attention_mask)


def test_out_of_memory_with_a_single_example_is_an_error_of_the_machine(
    encoded: EncodedExamples, tiny_backbone_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(MachineError, match="out of memory with a batch of") as raised:
        trained(new_learner(tiny_backbone_folder, HopelessHead), encoded, tmp_path / "run")
    assert "--max-length" in raised.value.hint


def test_patience_stops_early_and_the_best_checkpoint_is_loaded(
    encoded: EncodedExamples, tiny_backbone_folder: Path, tmp_path: Path
) -> None:
    losses = iter([0.5, 0.2, 0.3, 0.4, 0.1, 0.1])
    learner = new_learner(tiny_backbone_folder)
    snapshots = []

    def validate() -> dict[str, float]:
        snapshots.append(learner.model.head.linear.weight.detach().clone())
        return {"loss": next(losses)}

    settings = {"epochs": 6, "patience": 2, "batch_tokens": 10_000}
    trainer, _ = trained(learner, encoded, tmp_path / "run", validate=validate, **settings)
    assert trainer.state.global_step == 4, "two evaluations without improvement end it"
    assert trainer.state.best_global_step == 2
    assert torch.equal(learner.model.head.linear.weight, snapshots[1])


@pytest.mark.parametrize("constant", [0.0, float("nan")])
def test_where_the_metric_is_the_same_everywhere_the_loss_chooses(
    encoded: EncodedExamples, tiny_backbone_folder: Path, tmp_path: Path, constant: float
) -> None:
    losses = iter([0.5, 0.2, 0.3, 0.4, 0.1])
    learner = new_learner(tiny_backbone_folder)
    snapshots = []

    def validate() -> dict[str, float]:
        snapshots.append(learner.model.head.linear.weight.detach().clone())
        return {"loss": next(losses), "rouge1": constant}

    settings = {"epochs": 5, "batch_tokens": 10_000, "best_by": "rouge1", "best_is_lowest": False}
    trainer, _ = trained(learner, encoded, tmp_path / "whole", validate=validate, **settings)
    assert trainer.state.best_global_step == 5
    assert torch.equal(learner.model.head.linear.weight, snapshots[4])
    losses = iter([0.5, 0.2, 0.3, 0.4, 0.1])
    learner = new_learner(tiny_backbone_folder)
    trainer, _ = trained(learner, encoded, tmp_path / "patient", validate=validate, patience=2, **settings)
    assert (trainer.state.global_step, trainer.state.best_global_step) == (4, 2)
    assert torch.equal(learner.model.head.linear.weight, snapshots[6])


def test_a_metric_that_moves_once_chooses_the_first_of_its_best(
    encoded: EncodedExamples, tiny_backbone_folder: Path, tmp_path: Path
) -> None:
    figures = iter(zip([0.5, 0.4, 0.3, 0.2, 0.1], [0.2, 0.2, 0.2, 0.2, 0.1], strict=True))
    learner = new_learner(tiny_backbone_folder)

    def validate() -> dict[str, float]:
        loss, metric = next(figures)
        return {"loss": loss, "rouge1": metric}

    settings = {"epochs": 5, "batch_tokens": 10_000, "best_by": "rouge1", "best_is_lowest": False}
    trainer, _ = trained(learner, encoded, tmp_path / "run", validate=validate, **settings)
    assert trainer.state.best_global_step == 1


@pytest.mark.parametrize("killed_after", [1, 3, 4])
def test_patience_counts_on_after_a_resume(
    encoded: EncodedExamples, tiny_backbone_folder: Path, tmp_path: Path, killed_after: int
) -> None:
    """Also where the folder was moved, and where the patience was at its end already."""
    losses = [0.5, 0.2, 0.3, 0.4, 0.1, 0.05]
    common: dict[str, Any] = {"epochs": 6, "patience": 2, "batch_tokens": 10_000}

    def validate_from(update: int, kill_after: int = 6) -> Any:
        coming = iter(enumerate(losses[update:], start=update + 1))

        def validate() -> dict[str, float]:
            number, loss = next(coming)
            if number > kill_after:
                raise KeyboardInterrupt
            return {"loss": loss}

        return validate

    _, whole = trained(
        new_learner(tiny_backbone_folder), encoded, tmp_path / "whole", validate=validate_from(0), **common
    )
    try:
        killed = validate_from(0, killed_after)
        trained(new_learner(tiny_backbone_folder), encoded, tmp_path / "killed", validate=killed, **common)
    except KeyboardInterrupt:
        assert killed_after < 4
    (tmp_path / "killed").rename(tmp_path / "moved")
    resumed, weights = trained(
        new_learner(tiny_backbone_folder),
        encoded,
        tmp_path / "moved",
        resume=str(tmp_path / "moved" / f"checkpoint-{killed_after}"),
        validate=validate_from(killed_after),
        **common,
    )
    assert (resumed.state.global_step, resumed.state.best_global_step) == (4, 2)
    assert torch.equal(weights, whole)


def test_validation_out_of_memory_is_computed_in_halves(encoded: EncodedExamples, tiny_backbone_folder: Path) -> None:
    class Small(SequenceHead):
        def forward(self, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            if len(hidden) > 2:
                raise torch.OutOfMemoryError("not enough memory for more than two")
            return super().forward(hidden, attention_mask)

    features = [encoded[index] for index in range(len(encoded))]
    whole = new_learner(tiny_backbone_folder, max_tokens=1000).outputs_of(features)
    halves = new_learner(tiny_backbone_folder, Small, max_tokens=1000).outputs_of(features)
    np.testing.assert_allclose(halves, whole, atol=1e-5)


def test_class_weights_weigh_the_rare_label(tiny_backbone_folder: Path) -> None:
    learner = new_learner(tiny_backbone_folder)
    model = learner.model.eval()
    ids, mask = torch.tensor([[5, 6], [7, 8], [9, 10]]), torch.ones(3, 2, dtype=torch.long)
    labels = torch.tensor([0, 0, 1])
    losses = [model(ids[i : i + 1], mask[:1], labels[i : i + 1])["loss"] for i in range(3)]
    learner.class_weights = torch.tensor([0.75, 1.5])
    weighted = model(ids, mask, labels)["loss"]
    torch.testing.assert_close(weighted, (0.75 * losses[0] + 0.75 * losses[1] + 1.5 * losses[2]) / 3)

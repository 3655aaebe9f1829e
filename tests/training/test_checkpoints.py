"""A kill at any moment leaves a usable checkpoint, and going on from it changes no bit of the weights."""

from __future__ import annotations

import ast
import inspect
import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

from gpt_tasks.errors import MachineError
from gpt_tasks.training import checkpoints
from gpt_tasks.training.checkpoint_files import last_checkpoint, remove_damaged
from gpt_tasks.training.checkpoints import CheckpointedTrainer, LossError

ROWS, BATCH = 22, 2


ROOT = Path(__file__).parents[2] / "gpt_tasks"


PRIVATE: dict[str, list[str]] = {
    "_init_training_state": [
        "self",
        "max_steps",
        "num_update_steps_per_epoch",
        "num_train_epochs",
        "resume_from_checkpoint",
        "trial",
    ],
    "_issue_warnings_after_load": ["self", "load_result"],
    "_load_best_model": ["self"],
    "_load_from_checkpoint": ["self", "resume_from_checkpoint"],
    "_save_checkpoint": ["self", "model", "trial"],
}


@pytest.mark.parametrize("name", PRIVATE)
def test_the_trainer_still_has_what_is_not_public(name: str) -> None:
    found = list(inspect.signature(getattr(Trainer, name)).parameters.values())
    assert [each.name for each in found if each.default is inspect.Parameter.empty] == PRIVATE[name]


def test_no_other_room_uses_what_is_not_public() -> None:
    private = {name for name in vars(Trainer) if name.startswith("_") and not name.startswith("__")}
    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        trainers = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and "Trainer" in node.name]
        used = {
            node.attr if isinstance(node, ast.Attribute) else node.name
            for trainer in trainers
            for node in ast.walk(trainer)
            if isinstance(node, ast.Attribute | ast.FunctionDef)
        } & private
        assert used <= (set(PRIVATE) if path.name == "checkpoints.py" else set()), path


class Shuffled:
    """Batches in another order every epoch; 11 of them, so that accumulation by 2 leaves a half update at the end."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return ROWS // BATCH

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(self.epoch)).tolist()
        return (order[start : start + BATCH] for start in range(0, ROWS, BATCH))


class Scored(CheckpointedTrainer):
    """Says that the first evaluation was the best."""

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        return {"eval_score": 1.0 / self.state.global_step}


class KillAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def trainer(folder: Path, callbacks: tuple[TrainerCallback, ...] = (), **changed: Any) -> CheckpointedTrainer:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.2))
    rows = [{"input_ids": (ids := torch.randint(50, (12,))), "labels": ids} for _ in range(ROWS)]
    settings: dict[str, Any] = {
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 3,
        "save_strategy": "steps",
        "save_steps": 2,
        "learning_rate": 1e-2,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
    args = TrainingArguments(output_dir=str(folder), **(settings | changed))
    kind = Scored if changed else CheckpointedTrainer
    extra = {"eval_dataset": rows} if changed else {}
    return kind(
        model=model, args=args, train_dataset=rows, train_batches=Shuffled(), callbacks=list(callbacks), **extra
    )


def final_weights(made: CheckpointedTrainer) -> dict[str, torch.Tensor]:
    assert isinstance(made.model, torch.nn.Module)
    return {name: tensor.clone() for name, tensor in made.model.state_dict().items()}


# Where each training kills itself, and the last whole checkpoint that it then leaves.
KILLS = {
    "in the first epoch": ("step", 3, "checkpoint-2"),
    "in the second epoch": ("step", 11, "checkpoint-10"),
    "in the first save": ("save", 1, None),
    "in the second save": ("save", 6, "checkpoint-2"),
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, command_server: Any) -> dict[str, Path]:
    """Trainings that killed themselves at an update, or half-way through the n-th file that they saved."""
    folders = {name: tmp_path_factory.mktemp("killed") for name in KILLS}
    for name, (where, number, _) in KILLS.items():
        code = f"import sys, runpy; runpy.run_path({__file__!r})['train'](sys.argv[1], {where!r}, {number})"
        assert command_server.run(folders[name], code=code).returncode == -signal.SIGKILL, name
    return folders


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    made = trainer(tmp_path_factory.mktemp("whole"))
    made.train()
    assert made.state.global_step == 18
    return final_weights(made)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("kill", KILLS)
def test_a_killed_training_continues_to_the_same_weights(
    kill: str, killed: dict[str, Path], uninterrupted: dict[str, torch.Tensor]
) -> None:
    folder = killed[kill]
    found = last_checkpoint(folder)
    assert (found.name if found else None) == KILLS[kill][2]
    remove_damaged(folder, pytest.fail)
    made = trainer(folder)
    made.train(resume_from_checkpoint=str(found) if found else None)
    for name, tensor in final_weights(made).items():
        assert torch.equal(tensor, uninterrupted[name]), name


def test_the_order_of_the_second_epoch_is_its_own(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    seen: list[list[int]] = []
    collate = made.data_collator
    rows = {id(row): number for number, row in enumerate(made.train_dataset)}  # type: ignore[arg-type]

    def noting(batch: list[Any]) -> Any:
        seen.append([rows[id(row)] for row in batch])
        return collate(batch)

    made.data_collator = noting
    made.train()
    epochs = [seen[start : start + len(Shuffled())] for start in range(0, len(seen), len(Shuffled()))]
    assert [sorted(row for batch in epoch for row in batch) for epoch in epochs] == [list(range(ROWS))] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_newest_checkpoints_and_the_best_one_stay(tmp_path: Path) -> None:
    made = trainer(tmp_path, eval_strategy="steps", eval_steps=2, metric_for_best_model="score", greater_is_better=True)
    made.keep_checkpoints = 1
    made.train()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-18", "checkpoint-2"]


def test_only_complete_checkpoints_count(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "nowhere") is None
    for step, complete in ((9, True), (10, True), (100, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
        if complete:
            (tmp_path / f"checkpoint-{step}" / "COMPLETE").touch()
    (tmp_path / "checkpoint-of-mine").mkdir()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    remove_damaged(tmp_path, pytest.fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-9", "checkpoint-of-mine"]


def test_the_processes_wait_while_one_of_them_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer(tmp_path, max_steps=2)
    done: list[str] = []

    def recorded(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: (done.append(name), call(*args, **kwargs))[1]

    for name in ("write_json", "sync", "mark_complete"):
        monkeypatch.setattr(checkpoints, name, recorded(name, getattr(checkpoints, name)))
    monkeypatch.setattr(made.accelerator, "wait_for_everyone", lambda: done.append("wait"))
    made.train()
    assert done[done.index("write_json") :] == ["write_json", "wait", "sync", "wait", "mark_complete", "wait"]


def test_the_best_checkpoint_is_checked_before_its_weights_are_taken(tmp_path: Path) -> None:
    made = trainer(
        tmp_path,
        max_steps=4,
        eval_strategy="steps",
        eval_steps=2,
        metric_for_best_model="score",
        greater_is_better=True,
        load_best_model_at_end=True,
    )

    class Damage(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 3:
                weights = tmp_path / "checkpoint-2" / "model.safetensors"
                weights.write_bytes(weights.read_bytes()[:-1] + b"?")

    made.add_callback(Damage())
    with pytest.raises(MachineError, match=r"checkpoint-2/model.safetensors is damaged"):
        made.train()


def test_what_is_undefined_is_null_in_the_state(tmp_path: Path) -> None:
    class Undefined(CheckpointedTrainer):
        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            figures = {"eval_score": math.nan}
            self.log(dict(figures))
            return figures

    settings = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "score", "greater_is_better": True}
    made = trainer(tmp_path, max_steps=2, **settings)
    made.__class__ = Undefined
    made.train()

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    state = json.loads((tmp_path / "checkpoint-2" / "trainer_state.json").read_text(), parse_constant=refuse)
    assert state["log_history"][0]["eval_score"] is None
    remove_damaged(tmp_path, pytest.fail)
    trainer(tmp_path, max_steps=4, **settings).train(resume_from_checkpoint=str(last_checkpoint(tmp_path)))


@pytest.mark.parametrize("device", ["cpu", "accelerator"])
def test_a_loss_that_is_not_finite_ends_the_training(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Diverged(CheckpointedTrainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs) * math.nan
            return self.check_loss(loss) if device == "cpu" else loss

    made = trainer(tmp_path, max_steps=4, eval_strategy="no", logging_steps=1, logging_nan_inf_filter=False)
    made.__class__ = Diverged
    with pytest.raises(LossError, match="the loss is nan in update 1"):
        made.train()


def test_a_checkpoint_holding_a_pickled_object_is_refused(tmp_path: Path) -> None:
    made = trainer(tmp_path, max_steps=2, eval_strategy="no")
    made.train()
    checkpoint = last_checkpoint(tmp_path)
    assert checkpoint is not None
    torch.save({"state": Path("/anything")}, checkpoint / "optimizer.pt")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        trainer(tmp_path).train(resume_from_checkpoint=str(checkpoint))
    shutil.rmtree(checkpoint)


def train(folder: str, where: str, number: int) -> None:
    torch.set_num_threads(1)
    if where == "step":
        trainer(Path(folder), (KillAt(number),)).train()
    save, calls = torch.save, []

    def half_a_save(value: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        calls.append(file)
        save(value, file, *args, **kwargs)
        if len(calls) == number:
            os.truncate(file, Path(file).stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half_a_save
    trainer(Path(folder)).train()

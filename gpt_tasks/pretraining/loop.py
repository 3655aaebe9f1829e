"""The pretraining loop: the Trainer with a measured validation, its optimizer, and the lines it prints."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from transformers import (
    PreTrainedTokenizerFast,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from gpt_tasks.backbone.isolation import evaluating
from gpt_tasks.pretraining.bits_per_byte import bits_per_byte
from gpt_tasks.pretraining.config import PretrainConfig
from gpt_tasks.pretraining.corpus import ValidationText
from gpt_tasks.pretraining.optimizers import MuonAdamW, adamw_groups, muon_groups
from gpt_tasks.pretraining.packed import PackedGPT2
from gpt_tasks.progress import duration
from gpt_tasks.tasks.encoding import encode_text
from gpt_tasks.training.checkpoints import CheckpointedTrainer

QUICK_VALIDATION_TOKENS = 1 << 16


class PretrainTrainer(CheckpointedTrainer):
    """The checkpointed Trainer on packed windows; its evaluation is bits per byte of the validation's beginning.

    Every logged entry says after how many seconds of training it was written, over all resumes, and after how many
    kilowatt-hours where `energy` measures them.
    """

    def __init__(self, *args: Any, end_of_text: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.end_of_text = end_of_text
        self.energy: Callable[[], float | None] = lambda: None
        self.model_accepts_loss_kwargs = False  # every part of an update is of one size: their means average exactly
        self._began = 0.0
        self._before: dict[str, float] | None = None
        self.remove_callback(PrinterCallback)

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], *_: Any, **__: Any) -> torch.Tensor:
        """The mean loss of a batch of windows, in nats. Raises LossError for one that is not a finite number."""
        return self.check_loss(model(**inputs).loss)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Bits per byte of the first 65,536 validation tokens, in plain windows, each process its share of them."""
        assert isinstance(self.eval_dataset, ValidationText)
        assert isinstance(self.model, PackedGPT2)
        value = bits_per_byte(
            self.model,
            self.eval_dataset.head(QUICK_VALIDATION_TOKENS),
            stride=self.model.config.n_positions,
            bf16=self.args.bf16,
            share=(self.args.process_index, self.args.world_size),
            total=self._sum,
        )
        metrics = {"eval_bits_per_byte": value}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log with the seconds and the energy of training so far."""
        if self._before is None:
            self._began = time.time()
            self._before = {name: spent(self.state.log_history, name) for name in ("seconds", "kwh")}
        logs = {**logs, "seconds": round(self._before["seconds"] + time.time() - self._began, 1)}
        kwh = self.energy()
        if kwh is not None:
            logs["kwh"] = round(self._before["kwh"] + kwh, 7)
        super().log(logs, *args, **kwargs)

    def _sum(self, nats: float) -> float:
        return float(self.accelerator.reduce(torch.tensor(nats, dtype=torch.float64, device=self.args.device)))


def spent(history: list[dict[str, float]], what: str) -> float:
    """The last logged value of `what` ("seconds" or "kwh"), 0 where there is none."""
    return next((entry[what] for entry in reversed(history) if what in entry), 0.0)


class ProgressLines(TrainerCallback):
    """One line every few updates: loss, speed, time left; and after each validation what the model writes."""

    def __init__(
        self,
        say: Callable[[str], None],
        model: PackedGPT2,
        tokenizer: PreTrainedTokenizerFast,
        config: PretrainConfig,
    ) -> None:
        self.say, self.model, self.tokenizer, self.config = say, model, tokenizer, config
        self.began, self.began_at = 0.0, 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self.began, self.began_at = time.time(), state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Report the loss."""
        if not logs or "loss" not in logs:
            return
        pace = (time.time() - self.began) / max(1, state.global_step - self.began_at)
        left = duration(pace * (state.max_steps - state.global_step))
        self.say(
            f"update {state.global_step}/{state.max_steps}  loss {logs['loss']:.3f}  "
            f"{self.config.batch_tokens / pace:,.0f} tokens/s  {left} left"
        )

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Report the validation, and show samples."""
        if not metrics or not state.is_world_process_zero:
            return
        self.say(f"update {state.global_step}  validation: {metrics['eval_bits_per_byte']:.4f} bits per byte")
        for prompt in self.config.prompt:
            text = sample(self.model, self.tokenizer, prompt, self.config.seed)
            self.say(f"  | {text}".replace("\n", " / "))


def make_optimizer(model: torch.nn.Module, config: PretrainConfig) -> MuonAdamW:
    """The optimizer that the configuration asks for, over this model's parameters."""
    if config.optimizer == "muon":
        return MuonAdamW(muon_groups(model, config.muon_learning_rate, config.learning_rate, config.weight_decay))
    return MuonAdamW(adamw_groups(model, config.learning_rate, config.weight_decay))


def seconds_per_update(
    model: PackedGPT2, config: PretrainConfig, batches: list[dict[str, torch.Tensor]], args: TrainingArguments
) -> float:
    """How long one update takes here, found on a copy of the model that is then thrown away."""
    copy = deepcopy(model).train()
    copy.to(device=args.device)
    optimizer = make_optimizer(copy, config)
    taken: list[float] = []
    for _ in range(6):
        began = time.perf_counter()
        for batch in batches:
            inputs = {name: tensor.to(args.device) for name, tensor in batch.items()}
            with torch.autocast(args.device.type, torch.bfloat16, enabled=args.bf16):
                loss = copy(**inputs).loss
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # waits for the device
        taken.append(time.perf_counter() - began)
    return sum(taken[2:]) / len(taken[2:])


@torch.no_grad()
def sample(model: Any, tokenizer: PreTrainedTokenizerFast, prompt: str, seed: int, tokens: int = 40) -> str:
    """The prompt and what the model writes after it: drawn from the 40 likeliest tokens, by a separate generator."""
    generator = torch.Generator().manual_seed(seed)
    ids = [tokenizer.eos_token_id, *encode_text(tokenizer, prompt)][: model.config.n_positions]
    with evaluating(model):
        for _ in range(min(tokens, model.config.n_positions - len(ids))):
            logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0, -1].float().cpu()
            best = logits.topk(min(40, len(logits)))
            ids.append(int(best.indices[torch.multinomial(best.values.softmax(-1), 1, generator=generator)]))
            if ids[-1] == tokenizer.eos_token_id:
                break
    return str(tokenizer.decode(ids[1:], skip_special_tokens=True))

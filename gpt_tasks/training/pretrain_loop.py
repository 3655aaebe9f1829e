"""The pretraining loop: the Trainer with a measured validation, its optimizer, and the lines it prints."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from gpt_tasks.training.checkpoints import CheckpointedTrainer
from gpt_tasks.training.corpus import ValidationText
from gpt_tasks.training.optimizers import MuonAdamW, adamw_groups, muon_groups
from gpt_tasks.training.packed import bits_per_byte

if TYPE_CHECKING:
    from gpt_tasks.training.pretrain import PretrainConfig

QUICK_VALIDATION_TOKENS = 1 << 16


class PretrainTrainer(CheckpointedTrainer):
    """The checkpointed Trainer on packed windows; it evaluates bits per byte on the first 65,536 validation tokens."""

    def __init__(self, *args: Any, precision: str, end_of_text: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.precision = precision
        self.end_of_text = end_of_text
        self.model_accepts_loss_kwargs = False  # every part of an update is of one size: their means average exactly
        self.remove_callback(PrinterCallback)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:  # type: ignore[override]
        return model(**inputs).loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:  # type: ignore[override]
        """Bits per byte of the beginning of the validation text, in plain windows, each rank its share of them."""
        assert isinstance(self.eval_dataset, ValidationText) and isinstance(self.model, PreTrainedModel)
        text = self.eval_dataset.head(QUICK_VALIDATION_TOKENS)
        value = bits_per_byte(
            self.model,
            text,
            stride=self.model.config.n_positions,
            precision=self.precision,
            share=(self.accelerator.process_index, self.accelerator.num_processes),
            total=lambda nats: float(self.accelerator.reduce(torch.tensor(nats, device=self.args.device)).item()),
        )
        metrics = {"eval_bits_per_byte": value}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def make_optimizer(model: torch.nn.Module, config: PretrainConfig) -> MuonAdamW:
    """The optimizer that the configuration asks for, over this model's parameters."""
    if config.optimizer == "muon":
        groups = muon_groups(model, config.muon_learning_rate, config.learning_rate, config.weight_decay)
    else:
        groups = adamw_groups(model, config.learning_rate, config.weight_decay)
    return MuonAdamW(groups)


class ProgressLines(TrainerCallback):
    """One line every few steps: loss, speed, time left; and after each validation a sample of what the model writes."""

    def __init__(
        self,
        say: Callable[[str], None],
        trainer: PretrainTrainer,
        tokenizer: PreTrainedTokenizerFast,
        config: PretrainConfig,
    ) -> None:
        self.say, self.trainer, self.tokenizer, self.config = say, trainer, tokenizer, config
        self.began, self.began_at = 0.0, 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.began, self.began_at = time.time(), state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        pace = (time.time() - self.began) / max(1, state.global_step - self.began_at)
        left = pace * (state.max_steps - state.global_step) / 60
        self.say(
            f"step {state.global_step}/{state.max_steps}  loss {logs['loss']:.3f}  "
            f"{self.config.batch_tokens / pace:,.0f} tokens/s  {left:.0f} min left"
        )

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not metrics or not state.is_world_process_zero:
            return
        self.say(f"step {state.global_step}  validation {metrics['eval_bits_per_byte']:.4f} bits per byte")
        for prompt in self.config.prompts:
            self.say("  | " + sample(self.trainer.model, self.tokenizer, prompt, self.config.seed).replace("\n", " / "))


@torch.no_grad()
def sample(model: Any, tokenizer: PreTrainedTokenizerFast, prompt: str, seed: int, tokens: int = 40) -> str:
    """What the model writes after the prompt, drawn from its 40 likeliest tokens, with random numbers of its own."""
    was_training = model.training
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    ids = [tokenizer.eos_token_id, *tokenizer.encode(prompt)]
    for _ in range(min(tokens, model.config.n_positions - len(ids))):
        logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0, -1].float().cpu()
        best = logits.topk(min(40, len(logits)))
        choice = torch.multinomial(best.values.softmax(-1), 1, generator=generator)
        ids.append(int(best.indices[choice]))
        if ids[-1] == tokenizer.eos_token_id:
            break
    model.train(was_training)
    return str(tokenizer.decode(ids[1:], skip_special_tokens=True))

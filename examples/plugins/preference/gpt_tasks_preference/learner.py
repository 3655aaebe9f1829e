"""The learner of preferences: direct preference optimization (Rafailov et al. 2023)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from operator import add
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from gpt_tasks import IGNORE_INDEX, Example, Features, LanguageModel, Learner, encode_text
from gpt_tasks_preference import CHOSEN, PROMPT, REJECTED, Preferred


class PairModel(LanguageModel):
    """The language model, of pairs of answers: its logits `[batch, 2]` are their log-probabilities.

    `values` `[batch, 4]` are the reference's log-probabilities, and how many tokens of each sequence are the prompt's.
    """

    loss: Any = None

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        values: Tensor,
        labels: Any = None,
        num_items_in_batch: Any = None,
    ) -> dict[str, Tensor]:
        """Return `logits`, and with `labels` `[batch]`, 0 or -100 for a pair that does not count, the `loss`."""
        ids, mask = input_ids.flatten(0, 1), attention_mask.flatten(0, 1)
        answers = (mask != 0) & (mask.cumsum(dim=-1) > values[:, 2:].reshape(-1, 1))
        logits = self.log_probs(ids, mask, ids.masked_fill(~answers, IGNORE_INDEX)).view(-1, 2)
        if labels is None:
            return {"logits": logits}
        count = (labels != IGNORE_INDEX).sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        return {"logits": logits, "loss": self.loss(logits, labels, values) / count}


class PreferenceLearner(Learner[Preferred]):
    """Makes chosen answers likelier and rejected ones less likely than the backbone finds them."""

    outputs = 2

    def join(self, transformer: nn.Module, head: nn.Module | None, **settings: Any) -> nn.Module:
        """Let the language model score both answers without dropout, as the reference does."""
        for module in transformer.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model = PairModel(transformer, self.backbone.model)
        model.loss = self.loss
        return model

    def encode(self, examples: Sequence[Example]) -> list[Features]:
        """Encode pairs with the log-probabilities of the backbone before the first update, the reference."""
        features = self._pairs(examples)
        known = self.outputs_of(features, PairModel(self.backbone.model.base_model, self.backbone.model))
        return [replace(each, values=(*row, *each.values[2:])) for each, row in zip(features, known, strict=True)]

    def predict(self, examples: Sequence[Example], *, scored: bool = False) -> list[Preferred]:
        """Answer without a reference, which is for the loss."""
        return self.decode(examples, self.outputs_of(self._pairs(examples)))

    def loss(self, logits: Tensor, labels: Tensor, values: Tensor) -> Tensor:
        """Return the summed loss of pairs."""
        gains = logits - values[:, :2]
        losses = -functional.logsigmoid(self.task.beta * (gains[:, 0] - gains[:, 1]))
        return losses[labels != IGNORE_INDEX].sum()

    def decode(self, examples: Iterable[Example], outputs: Sequence[np.ndarray]) -> list[Preferred]:
        return [Preferred(float(chosen) - float(rejected)) for chosen, rejected in outputs]

    @cached_property
    def before(self) -> nn.Module:
        """The backbone as it was before it was trained."""
        model = self.untrained_backbone().model
        return PairModel(model.base_model, model).to(self.settings.device).eval()

    def baselines(self, examples: Sequence[Example]) -> Mapping[str, Sequence[Preferred]]:
        """Return what the backbone preferred, and the shorter answers."""
        features = self._pairs(examples)
        lengths = [map(len, each.sequences) for each in features]
        shorter = [Preferred(float(rejected - chosen)) for chosen, rejected in lengths]
        return {"before": self.decode(examples, self.outputs_of(features, self.before)), "shorter": shorter}

    def _pairs(self, examples: Sequence[Example]) -> list[Features]:
        """Encode pairs without a reference; of what is too long the prompt's beginning is cut, and the answer's end."""
        tokenizer, length, found = self.backbone.tokenizer, self.settings.max_length, []
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        for example in examples:
            prompt, *answers = (
                encode_text(tokenizer, example.inputs[field], begins=field == PROMPT)
                for field in (PROMPT, CHOSEN, REJECTED)
            )
            answers = [[*answer, *end][: length - 1] for answer in answers]
            prompts = [prompt[max(0, len(prompt) + len(answer) - length) :] for answer in answers]
            sequences, cut = list(map(add, prompts, answers)), len(prompt) - min(map(len, prompts))
            found.append(Features(sequences, np.int64(0), values=(0.0, 0.0, *map(len, prompts)), truncated=cut))
        return found

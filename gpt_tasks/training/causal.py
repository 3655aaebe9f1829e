"""The fine-tuning of a language model by the loss on its next tokens, whatever they are to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpt_tasks.data.encoded import IGNORED, EncodedExamples
from gpt_tasks.evaluation.nats import learned_nats
from gpt_tasks.heads.language_model import LanguageModel
from gpt_tasks.heads.saved import save_model
from gpt_tasks.processes import all_gather, rank, world_size
from gpt_tasks.training.session import Session

# So many tokens of validation are judged on the way.
MOST_JUDGED = 200_000


@dataclass
class CausalSession(Session):
    """A fine-tuning of a backbone with its own output matrix."""

    model: LanguageModel = field(init=False)

    @property
    def reads_embedding(self) -> bool:
        """A tied output matrix is the embedding."""
        return True

    def build(self) -> LanguageModel:
        """Let the backbone's own output matrix foretell the tokens."""
        causal_lm: Any = self.backbone.model
        return LanguageModel(self.method.prepare(causal_lm.base_model), causal_lm)

    def loss(self, validation: EncodedExamples) -> float:
        """Return the mean cross-entropy in nats of the tokens to be learned, of the first 200,000 tokens."""
        most = int(np.searchsorted(np.cumsum(validation.lengths), MOST_JUDGED)) + 1
        mine = validation.__getitems__(range(rank(), min(most, len(validation)), world_size()))
        nats = learned_nats(
            self.model,
            mine,
            batch_tokens=self.settings.batch_tokens,
            pad_token_id=self.backbone.tokenizer.pad_token_id,
            precision=self.settings.precision,
        )
        learned = sum(int((each["labels"] != IGNORED).sum()) for each in mine)
        shares = all_gather((float(nats.sum()), learned))
        return sum(total for total, _ in shares) / sum(count for _, count in shares)

    def save(self) -> None:
        """Join what the method added with the backbone, and save it as a language model."""
        self.model.backbone = self.method.finish(self.model.backbone)
        save_model(self.folder.model, self.backbone.model, self.backbone.tokenizer, None, self.task_record("", 0))

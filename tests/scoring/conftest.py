"""Small models with random weights, large enough that a wrong mask shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gpt_tasks.scoring.model import ScoredModel

VOCABULARY = 384


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Any]:
    """Build a causal language model of transformers from its configuration class, with weights that matter."""
    from transformers import AutoModelForCausalLM

    def make(config_class: type, **settings: Any) -> Any:
        torch.manual_seed(0)
        settings = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, **settings}
        model = AutoModelForCausalLM.from_config(config_class(**settings)).eval().float()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(5)  # so that what is attended to moves the logits by more than rounding
        return model

    return make


@pytest.fixture(scope="session")
def gpt2(make_model: Callable[..., Any]) -> ScoredModel:
    from transformers import GPT2Config

    return ScoredModel(make_model(GPT2Config, n_embd=32, n_layer=3, n_head=4, n_positions=256))

"""The module that is trained; imported when a model is built, because it needs torch."""

import inspect

import torch
from peft import PromptEmbedding, PromptTuningConfig
from torch import nn
from transformers.modeling_outputs import BaseModelOutput


class Prompted(nn.Module):
    """A transformer, frozen, that reads vectors which move before each text; they begin as tokens drawn at random."""

    def __init__(self, transformer, vectors):
        super().__init__()
        self.transformer = transformer.requires_grad_(False)
        words = transformer.get_input_embeddings()
        config = PromptTuningConfig(
            num_virtual_tokens=vectors,
            token_dim=words.weight.shape[1],
            num_transformer_submodules=1,
            prompt_tuning_init="SAMPLE_VOCAB",
        )
        self.prompt = PromptEmbedding(config, words)
        self.register_buffer("places", torch.arange(vectors), persistent=False)
        self.takes_positions = "position_ids" in inspect.signature(transformer.forward).parameters

    def forward(self, input_ids, attention_mask, use_cache=False):
        """Return the hidden states `[batch, length, hidden]` of the texts; `input_ids` are `[batch, length]`."""
        texts = self.transformer.get_input_embeddings()(input_ids)
        prompts = self.prompt(self.places.expand(len(texts), -1)).to(texts.dtype)
        mask = torch.cat([attention_mask.new_ones(prompts.shape[:2]), attention_mask], dim=1)
        # Counted by the mask, so that it does not matter on which side a batch is padded.
        positions = {"position_ids": (mask.long().cumsum(dim=-1) - 1).clamp(min=0)} if self.takes_positions else {}
        outputs = self.transformer(
            inputs_embeds=torch.cat([prompts, texts], dim=1), attention_mask=mask, use_cache=use_cache, **positions
        )
        return BaseModelOutput(last_hidden_state=outputs.last_hidden_state[:, len(self.places) :])

    def activation_checkpointing_enable(self, **settings):
        """Recompute activations in the backward pass, for `--gradient-checkpointing`."""
        self.transformer.activation_checkpointing_enable(**settings)

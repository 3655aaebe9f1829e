"""Backbones: causal language models with their tokenizers, and what the machine can do for them."""

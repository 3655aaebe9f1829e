"""Backbones: causal language models with their tokenizers, and what the machine can do for them."""

import os

# oneDNN compiles a product for every shape that it meets and caches 1,024 of them; torch's layer above caches as many.
# Texts have hundreds of lengths: the caches grow to a gigabyte, and training is no faster.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
os.environ.setdefault("LRU_CACHE_CAPACITY", "16")

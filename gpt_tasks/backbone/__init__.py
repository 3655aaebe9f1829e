"""Backbones: causal language models with their tokenizers, and what the machine can do for them."""

import os

# oneDNN compiles a product for every shape that it meets and keeps 1,024 of them, torch's layer over it as many more.
# Texts have hundreds of lengths: that grows to a gigabyte, and training is no sooner for it.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
os.environ.setdefault("LRU_CACHE_CAPACITY", "16")

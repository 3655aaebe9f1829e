"""Pretrain a GPT on raw text: the corpus, the recipe, the loop and its report."""

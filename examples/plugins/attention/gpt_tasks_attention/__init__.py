"""A head that learns which tokens of a text to look at."""

from gpt_tasks import HeadSpec, hookimpl

GPT_TASKS_HOOKS = 1


def build(hidden_size, outputs):
    from gpt_tasks_attention.module import AttentionHead

    return AttentionHead(hidden_size, outputs)


@hookimpl
def register_heads():
    says = "One row of logits for a text, from those tokens that it attends to."
    return [HeadSpec("attention", says, build, frozen="pooled")]

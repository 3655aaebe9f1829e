"""Prompt tuning: a few vectors before the text are all of the backbone that moves (https://arxiv.org/abs/2104.08691)."""

from gpt_tasks import Method, hookimpl

GPT_TASKS_HOOKS = 1
VECTORS = 16


def prepare(transformer):
    from gpt_tasks_prompt_tuning.module import Prompted

    return Prompted(transformer, VECTORS)


def defaults(parameters):
    return {"epochs": 8, "learning_rate": 1e-2, "warmup": 0.1, "weight_decay": 0.0, "batch_tokens": 1024}


@hookimpl
def register_methods():
    says = f"{VECTORS} vectors before every text are trained, and saved next to the model."
    return [
        Method(
            "prompt",
            says,
            prepare,
            lambda prompted: prompted,
            defaults,
            saved_separately=True,
            num_virtual_tokens=VECTORS,
        )
    ]

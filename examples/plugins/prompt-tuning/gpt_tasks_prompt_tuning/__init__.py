"""Prompt tuning: a few vectors before the text are all of the backbone that moves (https://arxiv.org/abs/2104.08691)."""

from pydantic import Field

from gpt_tasks import Method, MethodOptions, hookimpl

GPT_TASKS_HOOKS = 1


class PromptOptions(MethodOptions):
    prompt_vectors: int = Field(16, ge=1, description="So many vectors are put before every text.")


def prepare(transformer, options):
    from gpt_tasks_prompt_tuning.module import Prompted

    return Prompted(transformer, options.prompt_vectors)


def defaults(parameters):
    return {"epochs": 8, "learning_rate": 1e-2, "warmup": 0.1, "weight_decay": 0.0, "batch_tokens": 1024}


@hookimpl
def register_methods():
    return [
        Method(
            "prompt",
            "Vectors before every text are trained, and saved next to the model.",
            prepare,
            lambda prompted: prompted,
            defaults,
            saved_separately=True,
            num_virtual_tokens=lambda options: options.prompt_vectors,
            options=PromptOptions,
        )
    ]

"""Cohen's kappa: how far the labels agree beyond chance."""

from gpt_tasks import Metric, hookimpl

GPT_TASKS_HOOKS = 1


def kappa(rows):
    """Return the agreement above chance by the most there could be (Cohen 1960); 0 where chance explains all of it."""
    import numpy as np

    references, predictions = rows.codes
    agreed = np.mean(references == predictions)
    shares = (np.bincount(codes, minlength=len(rows.labels)) / len(rows) for codes in rows.codes)
    by_chance = np.prod(list(shares), axis=0).sum()
    return float((agreed - by_chance) / (1 - by_chance)) if by_chance < 1 else 0.0


@hookimpl
def register_metrics():
    says = "Agreement with the right labels beyond chance: 1 is all of it, 0 is none."
    return [Metric("kappa", says, range=(-1.0, 1.0), whole=kappa)]

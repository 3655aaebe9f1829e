"""Search for cases with faults: so many of a kind, from a seed."""

from __future__ import annotations

import gc
import importlib
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from .cases import KINDS
from .child import Case, Ended, run_case

# Imported once, so that a child has them.
WARM = (
    "gpt_tasks.training.finetune",
    "gpt_tasks.training.session",
    "gpt_tasks.training.run",
    "gpt_tasks.scoring.score",
    "gpt_tasks.scoring.scorer",
    "gpt_tasks.generation.generator",
    "gpt_tasks.evaluation.evaluate",
    "gpt_tasks.evaluation.compare",
    "gpt_tasks.pretraining.pretrain",
    "transformers.models.gpt2.modeling_gpt2",
    "matplotlib.pyplot",
    "peft",
    "sklearn.linear_model",
    "sklearn.feature_extraction.text",
    "datasets",
    "openpyxl",
)


@dataclass
class Found:
    """How many cases were run, and the shortest case of each way to fail."""

    tried: int = 0
    codes: dict[int, int] = field(default_factory=dict)
    faults: dict[tuple[str, ...], tuple[Case, Ended]] = field(default_factory=dict)

    def add(self, case: Case, ended: Ended) -> None:
        """Count a case."""
        self.tried += 1
        self.codes[ended.code] = self.codes.get(ended.code, 0) + 1
        if ended.faults:
            # The same fault has the same last words, whatever the case's values are.
            key = (*(_sketch(fault) for fault in ended.faults), _sketch(_last(ended.said)))
            known = self.faults.get(key)
            if known is None or len(repr(case)) < len(repr(known[0])):
                self.faults[key] = case, ended


def warm_up() -> None:
    """Import what the children would each import."""
    for name in WARM:
        importlib.import_module(name)
    # A child's garbage collections would copy every page that they look at.
    gc.collect()
    gc.freeze()


def search(kind: str, world: Path, examples: int, number: int) -> Found:
    """Run so many cases of a kind; the same for the same `number`."""
    found = Found()

    @seed(number)
    @settings(
        max_examples=examples,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(KINDS[kind](world))
    def tried(case: Case) -> None:
        found.add(case, run_case(case, world))

    tried()
    return found


def told(case: Case, ended: Ended) -> str:
    """Return a case with its faults, as a person reads them."""
    lines = [f"gpt-tasks {' '.join(map(_short, case.arguments))}"]
    lines += [f"  {name}: {'removed' if content is None else _short(content)}" for name, content in case.files.items()]
    if case.stdin:
        lines.append(f"  stdin: {_short(case.stdin)}")
    lines.append(f"  code {ended.code}: {'; '.join(map(_short, ended.faults))}")
    return "\n".join([*lines, *(f"  | {line[:300]}" for line in ended.said.splitlines()[-4:])])


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]} ... {text[-60:]}"


def _sketch(text: str) -> str:
    return "".join("#" if each.isdigit() else each for each in text[:60])


def _last(said: str) -> str:
    lines = said.strip().splitlines()
    return next((line for line in reversed(lines) if "bug of gpt-tasks" in line), lines[-1] if lines else "")

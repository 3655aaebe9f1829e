import json
from pathlib import Path

import gpt_tasks_sarcasm
import pytest

SAMPLES = Path(gpt_tasks_sarcasm.__file__).with_name("samples")


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_samples_hold_both_labels(split):
    rows = [json.loads(line) for line in (SAMPLES / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["is_sarcastic"] for row in rows} == {0, 1}
    assert all(row["headline"] for row in rows)

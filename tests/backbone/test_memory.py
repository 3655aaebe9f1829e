"""Products of many shapes do not fill the memory with what oneDNN compiled for each."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

SHAPES = """
from pathlib import Path
import torch
import torch.nn.functional as F
import gpt_tasks.backbone

def resident():
    # Not the peak: a process begins with its parent's.
    return int(Path("/proc/self/statm").read_text().split()[1])

weight = torch.ones(1024, 512, dtype=torch.bfloat16)
F.linear(torch.ones(600, 512, dtype=torch.bfloat16), weight)
before = resident()
for length in range(100, 500):
    F.linear(torch.ones(length, 512, dtype=torch.bfloat16), weight)
print(resident() - before)
"""
CAPACITIES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")


def grown_by(**capacities: str) -> float:
    """How many MiB four hundred shapes add to the memory of a process."""
    environment = {name: value for name, value in os.environ.items() if name not in CAPACITIES}
    done = subprocess.run(
        [sys.executable, "-c", SHAPES], capture_output=True, text=True, check=True, env=environment | capacities
    )
    return int(done.stdout) * resource.getpagesize() / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is reported by Linux")
def test_compiled_products_are_few_unless_the_user_wants_them_all():
    all_kept = grown_by(**dict.fromkeys(CAPACITIES, "1024"))
    if all_kept < 100:
        pytest.skip("this processor's products are not compiled for each shape")
    assert grown_by() < all_kept / 3

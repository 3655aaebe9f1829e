"""Files are whole or not there, and what the machine refuses is reported as that."""

from __future__ import annotations

import errno
import json
import math

import pytest
import torch

from gpt_tasks.errors import MachineError
from gpt_tasks.files import atomic_write, machine_errors, write_json


def test_numbers_that_json_cannot_hold_become_null(tmp_path) -> None:
    write_json(tmp_path / "x.json", {"a": [math.nan, 1.5, {"b": math.inf}], "c": (2, "NaN", None, True)})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [None, 1.5, {"b": None}], "c": [2, "NaN", None, True]}


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path) -> None:
    (tmp_path / "x.txt").write_text("old")
    with pytest.raises(TypeError), atomic_write(tmp_path / "x.txt") as file:
        file.writelines(["new", 1])  # type: ignore[list-item]
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]
    assert (tmp_path / "x.txt").read_text() == "old"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        OSError(errno.ENOSPC, "No space left on device", "x.txt"),
        RuntimeError("I/O error: No space left on device"),
    ],
)
def test_what_the_machine_refuses_is_an_error_of_the_machine(error) -> None:
    with pytest.raises(MachineError) as raised, machine_errors():
        raise error
    assert raised.value.hint


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), OSError(errno.ENOENT, "No such file"), KeyError("x")])
def test_other_errors_stay_what_they_are(error) -> None:
    with pytest.raises(type(error)) as raised, machine_errors():
        raise error
    assert raised.value is error

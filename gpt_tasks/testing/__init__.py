"""The conformance kit: is this task a good citizen?

In pytest by `parametrize_with_checks`, from Python by `check_task`, in a terminal by `gpt-tasks plugins check`.
"""

from __future__ import annotations

from gpt_tasks.testing.catalogue import CHECKS
from gpt_tasks.testing.checks import Check, Result, Status
from gpt_tasks.testing.in_pytest import parametrize_with_checks
from gpt_tasks.testing.running import check_task

__all__ = ["CHECKS", "Check", "Result", "Status", "check_task", "parametrize_with_checks"]

"""What docs/testing.md teaches is true: its table is the kit's, and its test passes as an author would run it."""

from __future__ import annotations

import re
from pathlib import Path

from gpt_tasks.testing import CHECKS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")


def test_the_table_holds_every_check_with_its_reason() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE, flags=re.MULTILINE)
    assert rows == [(check.name, check.reason) for check in CHECKS]


def test_the_test_on_the_page_passes_for_the_example_plugin(command_server, tmp_path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "test_sarcasm.py").write_text(block)
    process = command_server.run(
        *("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "test_sarcasm.py"),
        code="import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))",
        path=[ROOT / "examples" / "plugins" / "sarcasm"],
        folder=tmp_path,
    )
    assert process.returncode == 0, process.stdout
    assert f"{len(CHECKS) - 1} passed, 1 skipped" in process.stdout

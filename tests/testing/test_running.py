"""How checks are run and reported: each once, in pytest as from Python, with expected failures."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from typing import ClassVar

import pytest

import gpt_tasks.testing
from gpt_tasks import ClassificationTask, ClozeTask
from gpt_tasks.errors import UsageError
from gpt_tasks.testing import CHECKS, Check, check_task, parametrize_with_checks
from gpt_tasks.testing.checks import CheckError, SkipError
from gpt_tasks.testing.reading_checks import _loaded_by, connections_refused
from gpt_tasks.testing.running import Checking


class Mood(ClozeTask):
    """Foretell the tone of a sentence. It trains nothing, so that it is checked at once."""

    name = "mood"
    prompt = "{text} That is"
    ending = " {tone}"


class Overeager(Mood):
    """Asks for something else each time."""

    def requests(self, example, context):
        noise = random.choice("abcdefghijklmnopqrstuvwxyz") * random.randrange(1, 99)
        return super().requests(example, context + noise)


class Kinds(ClassificationTask):
    """Labels of the data's own, six of them, in a column that the task does not name."""

    name = "kinds"
    columns: ClassVar = {"text": "text"}
    folder: ClassVar = None

    def samples(self):
        return self.folder


def by_name(results):
    return {result.name: result for result in results}


def outcome(task, name, **expected):
    """What pytest reports of one check."""
    (parameters,) = [each.values for each in parametrized(task, **expected) if each.values[1].check.name == name]
    given, check = parameters
    check(given)


def parametrized(task, **expected):
    mark = parametrize_with_checks([task], **expected)
    assert mark.mark.args[0] == ("task", "check")
    return mark.mark.args[1]


def test_every_check_of_every_task_is_a_test_with_a_name() -> None:
    ids = [each.id for each in parametrize_with_checks([Mood(), Overeager()]).mark.args[1]]
    assert ids[: len(CHECKS)] == [f"mood-{check.name}" for check in CHECKS]
    assert len(ids) == 2 * len(CHECKS)


def test_pytest_reports_passed_failed_skipped_and_expected_checks() -> None:
    name = "encoding_is_deterministic"
    outcome(Mood(), name)
    with pytest.raises(AssertionError, match="must not draw"):
        outcome(Overeager(), name)
    with pytest.raises(pytest.skip.Exception, match=f"not run: It needs '{name}', which failed"):
        outcome(Overeager(), "target_does_not_leak")
    with pytest.raises(pytest.skip.Exception, match="skipped: The task trains nothing"):
        outcome(Mood(), "overfits_four_examples")
    with pytest.raises(pytest.xfail.Exception, match="It likes surprises"):
        outcome(Overeager(), name, expected_failures={name: "It likes surprises"})


def test_what_needs_an_expected_failure_is_not_run() -> None:
    results = by_name(check_task(Overeager(), expected_failures={"encoding_is_deterministic": "It likes surprises"}))
    assert results["encoding_is_deterministic"].status == "expected"
    assert results["encoding_is_deterministic"].message == "It likes surprises"
    assert results["target_does_not_leak"].status == "not run"
    assert "expected to fail" in results["target_does_not_leak"].message


def test_a_check_that_passes_though_it_was_expected_to_fail_is_a_failure() -> None:
    result = by_name(check_task(Mood(), expected_failures={"gold_answers_score_best": "It once did"}))
    assert result["gold_answers_score_best"].status == "FAILED"
    assert "Take it out" in result["gold_answers_score_best"].message


def test_what_was_not_run_or_skipped_is_not_expected_to_fail() -> None:
    result = by_name(check_task(Mood(), expected_failures={"same_seed_same_result": "It trains nothing"}))
    assert result["same_seed_same_result"].status == "skipped"


def test_a_check_that_is_not_there_cannot_be_expected_to_fail() -> None:
    with pytest.raises(UsageError, match="Did you mean 'samples_fit'"):
        check_task(Mood(), expected_failures={"sample_fits": "?"})
    with pytest.raises(UsageError, match="Did you mean 'samples_fit'"):
        parametrize_with_checks([Mood()], expected_failures={"sample_fits": "?"})


def test_a_class_is_no_task() -> None:
    with pytest.raises(UsageError, match="parentheses"):
        check_task(Mood)


def test_a_check_is_run_once_and_what_it_raises_is_reported_with_its_line(monkeypatch) -> None:
    calls = []

    def stumbles(fixture):
        calls.append(fixture)
        raise KeyError("shoe")

    checking = Checking(Mood())
    check = Check("stumbles", "Nobody shall.", stumbles)
    first, second = checking.result(check), checking.result(check)
    assert first is second
    assert len(calls) == 1
    assert first.status == "FAILED"
    assert "KeyError: 'shoe' (test_running.py:" in first.message


def test_a_check_that_skips_itself_says_why() -> None:
    def stops(fixture):
        raise SkipError("Not today.", "not run")

    result = Checking(Mood()).result(Check("stops", "It may.", stops))
    assert (result.status, result.message) == ("not run", "Not today.")


def test_every_check_comes_after_those_that_it_needs() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    for place, check in enumerate(CHECKS):
        assert set(check.needs) <= set(names[:place])
        assert check.reason.endswith(".")


def test_labels_of_the_datas_own_are_split_so_that_each_is_known(tmp_path) -> None:
    lines = [f'{{"text": "Thing {n} of kind {n % 6}", "label": "kind {n % 6}"}}' for n in range(18)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    task = Kinds()
    task.folder = tmp_path
    fixture = Checking(task).fixture
    assert len(fixture.splits.train) == 4
    assert len(set(fixture.splits.train.observed)) == 4
    assert set(fixture.splits.test.observed) <= set(fixture.splits.train.observed)


def test_numbers_that_mean_declared_labels_are_read_as_those(tmp_path) -> None:
    lines = [f'{{"text": "Thing {n}", "label": {n % 2}}}' for n in range(8)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    task = Kinds()
    task.folder, task.labels = tmp_path, ("even", "odd")
    fixture = Checking(task).fixture
    read = [fixture.example(row).target for row in fixture.rows]
    assert read == ["odd" if row.values["label"] else "even" for row in fixture.rows]
    assert [example.target for example in fixture.examples] == read[: len(fixture.examples)]
    assert by_name(check_task(task))["encoding_is_deterministic"].status == "passed"


def test_files_without_rows_are_reported_by_the_check_of_samples(tmp_path) -> None:
    (tmp_path / "train.jsonl").write_text("")
    task = Kinds()
    task.folder = tmp_path
    result = by_name(check_task(task))["samples_fit"]
    assert result.status == "FAILED"
    assert "train.jsonl" in result.message


def test_importing_the_kit_imports_neither_torch_nor_pytest() -> None:
    code = "import sys, gpt_tasks.testing; print({'torch', 'numpy', 'transformers', 'pytest'} & set(sys.modules))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["__main__", "nowhere.at_all"])
def test_a_module_that_cannot_be_named_is_imported_by_its_file(tmp_path, name) -> None:
    file = tmp_path / "task.py"
    file.write_text("import sys\nsys.modules['torch'] = sys\n")
    assert _loaded_by(name, str(file)) == ["torch"]


def test_a_module_that_cannot_be_imported_is_reported(tmp_path) -> None:
    file = tmp_path / "task.py"
    file.write_text("import no_such_library\n")
    with pytest.raises(CheckError, match="ModuleNotFoundError: No module named 'no_such_library'"):
        _loaded_by("nowhere.at_all", str(file))


def test_a_script_that_checks_its_own_tasks_does_not_start_itself_forever(tmp_path) -> None:
    file = tmp_path / "task.py"
    file.write_text(f"from gpt_tasks.testing.reading_checks import _loaded_by\n_loaded_by('__main__', {str(file)!r})\n")
    with pytest.raises(CheckError, match="__name__ == '__main__'"):
        _loaded_by("__main__", str(file))


def test_the_network_is_refused_only_on_request() -> None:
    before = (socket.socket, socket.getaddrinfo)
    with connections_refused() as attempts, pytest.raises(OSError, match="refused"):
        socket.create_connection(("example.org", 80))
    with connections_refused() as numbers, pytest.raises(OSError, match="refused"):
        socket.socket().connect(("127.0.0.1", 9))
    assert (attempts, numbers) == (["example.org"], ["127.0.0.1"])
    assert (socket.socket, socket.getaddrinfo) == before


def test_every_public_name_is_there() -> None:
    assert all(getattr(gpt_tasks.testing, name) is not None for name in gpt_tasks.testing.__all__)


def test_a_failure_of_a_check_is_an_assertion() -> None:
    assert issubclass(CheckError, AssertionError)

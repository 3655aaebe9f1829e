"""One plugin that fails must hurt no other, must be reported in one line, and must be blamed for what it raises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from gpt_tasks.errors import MachineError, PluginError, UsageError
from gpt_tasks.plugins import GROUP, Plugins, installed_plugins, load_plugins
from gpt_tasks.types import Event

GOOD = """
    from gpt_tasks import ClassificationTask, hookimpl

    class {name}(ClassificationTask):
        "A task."
        name = "{name}"

    @hookimpl
    def register_tasks():
        return [{name}()]
    """


def own() -> list[metadata.EntryPoint]:
    return [point for point in metadata.entry_points(group=GROUP) if point.module.startswith("gpt_tasks")]


def failure(plugins: Plugins) -> str:
    (failed,) = plugins.failures()
    assert failed.source == "acme 1.2"
    assert "\n" not in failed.error
    return failed.error


def test_every_own_plugin_loads() -> None:
    assert load_plugins(own()).failures() == []


def test_own_plugins_come_first_then_distributions_and_names_in_sorted_order(site) -> None:
    site.install("zebra", GOOD.format(name="zebra"), distribution="aaa")
    site.install("ant", GOOD.format(name="ant"), distribution="aaa")
    site.install("bee", GOOD.format(name="bee"), distribution="Mid.Dle_x")
    order = [(plugin.distribution, plugin.name) for plugin in load_plugins([*site.entry_points(), *own()]).plugins]
    foreign = [("aaa", "ant"), ("aaa", "zebra"), ("mid-dle-x", "bee")]
    assert order[-3:] == foreign
    assert {distribution for distribution, _ in order[:-3]} == {"gpt-tasks"}
    assert order[:-3] == sorted(order[:-3])


def test_a_plugin_cannot_take_a_built_in_task(site) -> None:
    site.install("mine", GOOD.format(name="sentiment"), distribution="aaa")
    plugins = load_plugins([*site.entry_points(), *own()])
    assert [plugin.error for plugin in plugins.failures()] == [
        "ValueError: the task name 'sentiment' is taken by plugin 'sentiment'"
    ]
    assert type(plugins.registry.tasks["sentiment"]).__module__ == "gpt_tasks_plugins.sentiment"


def test_a_plugin_cannot_take_a_built_in_command(site) -> None:
    site.install(
        "mine",
        """
        import typer
        from gpt_tasks import hookimpl

        app = typer.Typer(name="finetune")

        @app.command()
        def finetune(): ...

        @hookimpl
        def register_commands():
            return [app]
        """,
    )
    plugins = load_plugins([*site.entry_points(), *own()])
    assert failure(plugins) == "ValueError: the command name 'finetune' is taken by plugin 'commands'"


def test_a_plugin_cannot_take_the_name_of_a_plugin(site) -> None:
    site.install("sentiment", GOOD.format(name="other"))
    plugins = load_plugins([*site.entry_points(), *own()])
    assert failure(plugins) == "ValueError: there is already a plugin called 'sentiment'"
    assert "sentiment" in plugins.registry.tasks
    assert "other" not in plugins.registry.tasks


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("raise RuntimeError('no\\nluck')", "RuntimeError: no luck"),
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("this is no Python", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import sys; sys.exit()", "SystemExit"),
    ],
)
def test_a_plugin_that_fails_on_import_is_left_out_with_its_cause(site, source, cause) -> None:
    site.install("bad", source)
    site.install("good", GOOD.format(name="good"))
    plugins = load_plugins(site.entry_points())
    assert failure(plugins).startswith(cause)
    assert list(plugins.registry.tasks) == ["good"]


HOOKS = """
    import typer
    from gpt_tasks import ClassificationTask, FileFormat, hookimpl
    from gpt_tasks.extensions import Metric

    class Fine(ClassificationTask):
        "A task."
        name = "fine"

    class Nameless(ClassificationTask):
        "A task without a name."

    class Spaced(ClassificationTask):
        "A task whose name cannot be typed."
        name = "two words"

    @hookimpl{options}
    def {signature}:
        return {returned}
    """


@pytest.mark.parametrize(
    ("signature", "returned", "cause"),
    [
        ("register_task()", "[Fine()]", "ValueError: unknown hook 'register_task': did you mean 'register_tasks'?"),
        ("on_step()", "None", "ValueError: unknown hook 'on_step': there are register_tasks, register_metrics, "),
        ("register_tasks(registry)", "[Fine()]", "can not be found in the hookspec"),
        ("observe(event, run)", "None", "can not be found in the hookspec"),
        ("register_tasks()", "None", "register_tasks must return a list of Task, not NoneType"),
        ("register_tasks()", "Fine()", "register_tasks must return a list of Task, not Fine"),
        ("register_tasks()", "'fine'", "register_tasks must return a list of Task, not str"),
        ("register_tasks()", "{'fine': Fine()}", "register_tasks must return a list of Task, not dict"),
        ("register_tasks()", "[Fine]", "without its parentheses, which is no Task"),
        ("register_tasks()", "[Metric('m', whole=max)]", "which is no Task"),
        ("register_metrics()", "[Fine()]", "which is no Metric"),
        ("register_tasks()", "[Nameless()]", "whose name None is not made of"),
        ("register_tasks()", "[Spaced()]", "whose name 'two words' is not made of"),
        ("register_metrics()", "[Metric('loss', 'A loss.', statistic=max)]", "the metric name 'loss' is reserved"),
        ("register_metrics()", "[Metric('a.b', 'Dotted.', statistic=max)]", "whose name 'a.b' is not made of"),
        ("register_tasks()", "[Fine(), Fine()]", "it registers the task 'fine' twice"),
        (
            "register_sources()",
            "[FileFormat(n, 'Rows.', ('.rows',), print) for n in 'ab']",
            "the format 'b' reads .rows files, as 'a' does",
        ),
        ("register_tasks()", "1 / 0", "ZeroDivisionError: division by zero"),
        ("register_commands()", "[typer.Typer(name='empty')]", "Could not get a command"),
        ("register_commands()", "[typer.Typer()]", "is not made of a-z"),
    ],
)
def test_a_plugin_with_a_wrong_hook_is_left_out_with_its_cause(site, signature, returned, cause) -> None:
    site.install("bad", HOOKS.format(options="", signature=signature, returned=returned))
    site.install("good", GOOD.format(name="good"))
    plugins = load_plugins(site.entry_points())
    assert cause in failure(plugins)
    assert list(plugins.registry.tasks) == ["good"]
    assert plugins.observers == {}


@pytest.mark.parametrize(
    ("kind", "thing", "cause"),
    [
        ("responders", "ResponderSpec('c:', 'A drive.', print)", "whose prefix 'c' is not two characters or more"),
        ("responders", "ResponderSpec('9p:', 'A digit.', print)", "whose prefix '9p' is not two characters or more"),
        ("sources", "SourceScheme('x:', 'A drive.', print)", "whose prefix 'x' is not two characters or more"),
        ("responders", "ResponderSpec('a.b:', 'Dotted.', print)", "whose name 'a.b' is not made of"),
        ("suites", "Suite('a.b', None)", "whose name 'a.b' is not made of"),
        ("methods", "Method('a.b', 'Dotted.', print, print, print)", "whose name 'a.b' is not made of"),
        ("backbones", "BackbonePreset('a/b', 'A hub id.', print)", "whose name 'a/b' is not made of"),
        ("tasks", "fine(former_names=('a.b',))", "whose name 'a.b' is not made of"),
        ("tasks", "fine(former_names=('sentiment',))", "has the former name 'sentiment', which is that of 'sentiment'"),
        ("tasks", "fine(former_names=('textual',))", "has the former name 'textual', which is that of 'renamed'"),
        ("tasks", "fine(name='textual')", "the task name 'textual' is reserved: it is the former name of 'renamed'"),
        ("tasks", "fine(own_metrics=(Metric('loss', 'A loss.', each=max),))", "its metric name 'loss' is reserved"),
        ("commands", "command('sentiment')", "the command name 'sentiment' is reserved: it is that of a task"),
    ],
)
def test_names_follow_one_rule(site, kind, thing, cause) -> None:
    site.install("before", GOOD.format(name="renamed").replace("name = ", "former_names = ('textual',); name = "))
    site.install(
        "wrong",
        f"""
        import typer
        from gpt_tasks import *
        from gpt_tasks.extensions import *

        def fine(**attributes):
            return type("Fine", (ClassificationTask,), {{"name": "fine", "prompt": "{{text}}", **attributes}})()

        def command(name):
            app = typer.Typer(name=name)
            app.command(name)(lambda: None)
            return app

        @hookimpl
        def register_{kind}():
            return [{thing}]
        """,
    )
    loaded = load_plugins([*metadata.entry_points(group=GROUP), *site.entry_points()])
    assert cause in next(each.error for each in loaded.plugins if each.name == "wrong")


def test_a_task_and_a_command_of_one_plugin_differ_in_name(site) -> None:
    site.install(
        "both",
        GOOD.format(name="both")
        + """
    import typer

    app = typer.Typer(name="both")
    app.command("both")(lambda: None)

    @hookimpl
    def register_commands():
        return [app]
    """,
    )
    loaded = load_plugins([*metadata.entry_points(group=GROUP), *site.entry_points()])
    assert "is reserved: it is that of a" in next(each.error for each in loaded.plugins if each.name == "both")


@pytest.mark.parametrize("name", ["a.b", "a b", "A", "a,b"])
def test_the_name_of_a_plugin_follows_the_rule(name) -> None:
    loaded = load_plugins([metadata.EntryPoint(name, "textwrap", GROUP)])
    assert f"the plugin's name {name!r} is not made of" in loaded.failures()[0].error


@pytest.mark.parametrize("name", ["predict", "plugins"])
def test_a_task_cannot_be_called_as_a_command(site, name) -> None:
    site.install("bad", GOOD.format(name=name))
    loaded = load_plugins([*metadata.entry_points(group=GROUP), *site.entry_points()])
    assert f"the task name '{name}' is reserved" in next(each.error for each in loaded.plugins if each.name == "bad")


def test_a_hook_wrapper_is_refused(site) -> None:
    site.install("bad", HOOKS.format(options="(wrapper=True)", signature="register_tasks()", returned="(yield)"))
    assert "implement it as a plain function" in failure(load_plugins(site.entry_points()))


HALF = """
    from gpt_tasks import hookimpl
    from gpt_tasks.extensions import Metric

    @hookimpl
    def register_metrics():
        return [Metric("half", "A metric.", whole=max)]

    @hookimpl
    def observe(event):
        raise AssertionError("a plugin that is left out must not be observed")

    @hookimpl
    def register_tasks():
        return ["no task"]
    """


def test_no_part_of_a_half_good_plugin_is_registered(site) -> None:
    site.install("half", HALF)
    plugins = load_plugins(site.entry_points())
    assert failure(plugins)
    assert "half" not in plugins.registry.metrics
    plugins.notify(dict(plugins.observers), Event("step", None))


def test_what_a_failed_plugin_would_have_registered_fails_with_the_cause(site) -> None:
    site.install("sarcasm", "raise RuntimeError('no luck')")
    site.install("half", HALF)
    registry = load_plugins(site.entry_points()).registry
    with pytest.raises(PluginError, match=r"task 'sarcasm' is not available: plugin 'sarcasm' \(acme 1.2\) .*no luck"):
        registry.tasks["sarcasm"]
    with pytest.raises(PluginError, match=r"metric 'half' is not available: plugin 'half' \(acme 1.2\) .*no task"):
        registry.metrics["half"]
    with pytest.raises(UsageError, match="There is no task 'sarcasms'"):
        registry.tasks["sarcasms"]


def test_an_observer_that_raises_is_reported_once_and_left_out_of_that_run(site, capsys) -> None:
    site.install(
        "bad",
        """
        from gpt_tasks import hookimpl

        @hookimpl
        def observe(event):
            raise KeyError(event.step)
        """,
    )
    site.install(
        "good",
        """
        from gpt_tasks import hookimpl

        seen = []

        @hookimpl
        def observe(event):
            seen.append(event.step)
        """,
    )
    plugins = load_plugins(site.entry_points())
    run = dict(plugins.observers)
    for step in range(3):
        plugins.notify(run, Event("step", None, step))
    assert capsys.readouterr().err.splitlines() == [
        "Plugin 'bad' (acme 1.2) raised at 'step' and is left out for the rest of the run: KeyError: 0"
    ]
    assert sys.modules["acme_good"].seen == [0, 1, 2]
    assert set(plugins.observers) == {"bad", "good"}, "the next run calls it again"


RAISING = """
    from gpt_tasks import ClassificationTask, hookimpl
    from gpt_tasks.extensions import Metric

    class Odd(ClassificationTask):
        "A task."
        name = "odd"

        def plain(self, prediction):
            return prediction["no such key"]

    def broken(*arguments):
        open("/there/is/no/such/file")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    @hookimpl
    def register_tasks():
        return [Odd()]

    @hookimpl
    def register_metrics():
        return [Metric(f.__name__, whole=f) for f in (broken, full)]
    """


def test_what_a_plugin_raises_is_blamed_on_it(site) -> None:
    site.install("odd", RAISING)
    site.install("even", GOOD.format(name="even"))
    plugins = load_plugins([*own(), *site.entry_points()])
    with pytest.raises(PluginError, match=r"Plugin 'odd' \(acme 1.2\) failed: TypeError"), plugins.attribute_errors():
        plugins.registry.tasks["odd"].plain([])
    with (
        pytest.raises(PluginError, match=r"Plugin 'odd' \(acme 1.2\) failed: FileNotFoundError"),
        plugins.attribute_errors(),
    ):
        plugins.registry.metrics["broken"].whole()


def test_what_a_library_wraps_around_a_plugins_error_is_blamed_on_the_plugin(site) -> None:
    site.install("odd", RAISING)
    plugins = load_plugins(site.entry_points())
    with (
        pytest.raises(PluginError, match=r"Plugin 'odd' \(acme 1.2\) failed: FileNotFoundError"),
        plugins.attribute_errors(),
    ):
        in_a_library(plugins.registry.metrics["broken"].whole)


def in_a_library(function: Callable[[], None]) -> None:
    try:
        function()
    except FileNotFoundError as error:
        failure = error
    raise RuntimeError("something went wrong in there") from failure


def test_a_full_disk_is_not_blamed_on_the_plugin_that_met_it(site) -> None:
    site.install("odd", RAISING)
    plugins = load_plugins(site.entry_points())
    with pytest.raises(MachineError, match="No space left"), plugins.attribute_errors():
        plugins.registry.metrics["full"].whole()


ENDING = """
    import sys
    from gpt_tasks import ClassificationTask, hookimpl

    class Ending(ClassificationTask):
        "Ends the interpreter where it should read a row."
        name = "ending"

        def example(self, row, columns, extra=()):
            sys.exit(0)

    @hookimpl
    def register_tasks():
        return [Ending()]

    @hookimpl
    def observe(event):
        sys.exit(0)
    """


def test_a_plugin_that_ends_the_interpreter_failed(site, capsys) -> None:
    site.install("ending", ENDING)
    plugins = load_plugins([*own(), *site.entry_points()])
    with (
        pytest.raises(PluginError, match=r"Plugin 'ending' \(acme 1.2\) failed: SystemExit: 0"),
        plugins.attribute_errors(),
    ):
        plugins.registry.tasks["ending"].example(None, {})
    with pytest.raises(SystemExit), plugins.attribute_errors(may_exit=True):
        plugins.registry.tasks["ending"].example(None, {})
    plugins.notify(dict(plugins.observers), Event("saved", Path("run")))
    assert "raised at 'saved' and is left out" in capsys.readouterr().err


def test_a_terminated_process_ends_also_while_plugins_load(site) -> None:
    site.install("slow", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    assert gpt_tasks(site, "list", "methods").returncode == 143


def test_only_selected_plugins_are_loaded_and_gpt_tasks_own(site) -> None:
    site.install("haiku", GOOD.format(name="haiku"))
    site.install("sonnet", "raise AssertionError('what is not selected must not be imported')")
    plugins = load_plugins([*own(), *site.entry_points()], {"haiku"})
    assert plugins.failures() == []
    assert {"haiku", "sentiment"} <= set(plugins.registry.tasks)
    assert {plugin.name for plugin in plugins.plugins if plugin.state == "not selected"} == {"sonnet"}
    with pytest.raises(PluginError, match=r"plugin 'sonnet' \(acme 1.2\) is not among those that GPT_TASKS_PLUGINS"):
        plugins.registry.tasks["sonnet"]


@pytest.mark.parametrize(("value", "loaded"), [("", set()), ("haiku", {"haiku"}), (" haiku, sonnet,", None)])
def test_the_environment_selects(site, monkeypatch, value, loaded) -> None:
    for name in ("haiku", "sonnet"):
        site.install(name, GOOD.format(name=name))
    monkeypatch.setenv("GPT_TASKS_PLUGINS", value)
    installed_plugins.cache_clear()
    assert set(installed_plugins().registry.tasks) & {"haiku", "sonnet"} == (
        {"haiku", "sonnet"} if loaded is None else loaded
    )


def test_a_selected_name_that_is_not_installed_is_reported_with_what_is(site) -> None:
    with pytest.raises(UsageError, match="Only gpt-tasks' own are"):
        load_plugins(own(), {"haikus"})
    site.install("haiku", GOOD.format(name="haiku"))
    with pytest.raises(UsageError, match="no plugin called 'haikus' is installed") as raised:
        load_plugins([*own(), *site.entry_points()], {"haikus"})
    assert raised.value.hint == "Installed besides gpt-tasks' own: haiku."


def test_where_it_is_strict_the_first_failure_is_an_error(site) -> None:
    site.install("bad", "raise RuntimeError('no luck')")
    site.install("worse", "raise AssertionError('the first failure is the last')")
    with pytest.raises(
        PluginError, match=r"Plugin 'bad' \(acme 1.2\) cannot be loaded: RuntimeError: no luck"
    ) as raised:
        load_plugins(site.entry_points(), strict=True)
    assert isinstance(raised.value.__cause__, RuntimeError)


def test_where_it_is_strict_an_observer_that_raises_ends_the_run(site) -> None:
    site.install(
        "nosy", "from gpt_tasks import hookimpl\n\n@hookimpl\ndef observe(event):\n    raise KeyError(event.step)"
    )
    plugins = load_plugins(site.entry_points(), strict=True)
    with pytest.raises(PluginError, match=r"Plugin 'nosy' \(acme 1.2\) raised at 'step': KeyError: 7"):
        plugins.notify(dict(plugins.observers), Event("step", None, 7))


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ("GPT_TASKS_HOOKS = 2", "for version 2 of the hooks, and gpt-tasks 0.1.0 has version 1: upgrade gpt-tasks"),
        ("GPT_TASKS_HOOKS: int = 0  # of old", "has version 1: upgrade the plugin"),
    ],
)
def test_a_plugin_for_another_version_of_the_hooks_is_refused_before_it_runs(site, declared, told) -> None:
    site.install("other", f"raise AssertionError('it must not be imported')\n{declared}\n")
    assert told in failure(load_plugins(site.entry_points()))


@pytest.mark.parametrize("declared", ["GPT_TASKS_HOOKS = 1", '"""GPT_TASKS_HOOKS says 2."""', "# GPT_TASKS_HOOKS = 2"])
def test_a_plugin_for_this_version_of_the_hooks_or_for_any_is_loaded(site, declared) -> None:
    module = site.install("fine", GOOD.format(name="fine"))
    file = site.path / f"{module}.py"
    file.write_text(f"{declared}\n{file.read_text()}")
    plugins = load_plugins(site.entry_points())
    assert plugins.failures() == []
    assert plugins.find("fine").hooks == ("register_tasks",)


def test_a_module_that_is_not_there_is_the_cause(site) -> None:
    module = site.install("gone", "")
    (site.path / f"{module}.py").unlink()
    assert failure(load_plugins(site.entry_points())) == "ModuleNotFoundError: No module named 'acme_gone'"


METHOD = """
    from gpt_tasks import hookimpl
    from gpt_tasks.extensions import Method

    @hookimpl
    def register_methods():
        return [Method("mine", "", lambda module: module, lambda module: module, lambda parameters: {defaults})]
    """
METRIC = """
    from gpt_tasks import Metric, hookimpl

    @hookimpl
    def register_metrics():
        return [Metric("mine", {settings})]
    """
TASK = """
    from dataclasses import dataclass
    from gpt_tasks import ClassificationTask, hookimpl

    @dataclass
    class Plain:
        x: int = 1

    class Mine(ClassificationTask):
        "A task."
        name = "mine"
        {line}

    @hookimpl
    def register_tasks():
        return [Mine()]
    """


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        (METHOD.format(defaults="1 / 0"), "ZeroDivisionError"),
        (METHOD.format(defaults="{'epochs': '3'}"), "TypeError: method 'mine': its default epochs is '3'"),
        (METHOD.format(defaults="{'epoch': 3}"), "ValueError: method 'mine': there is no setting 'epoch'"),
        (
            METHOD.format(defaults="{}, num_virtual_tokens='4'"),
            "TypeError: method 'mine': its num_virtual_tokens is '4'",
        ),
        (METHOD.format(defaults="[]"), "TypeError: method 'mine': its defaults are a list"),
        (TASK.format(line='prompt = "{text"'), "ValueError: task 'mine': its prompt '{text' cannot be read"),
        (
            TASK.format(line='prompt = "no field"'),
            "ValueError: task 'mine': its prompt 'no field' must name the fields",
        ),
        (TASK.format(line='labels = "yes"'), "TypeError: task 'mine': its labels 'yes' are no tuple"),
        (TASK.format(line="Options = Plain"), "TypeError: task 'mine': its Options"),
        (METRIC.format(settings="whole=max, better='up'"), "ValueError: metric 'mine': better is 'up', neither"),
        (METRIC.format(settings="statistic=max, aggregate='sum'"), "ValueError: metric 'mine': there is no aggregate"),
        (METRIC.format(settings="''"), "ValueError: metric 'mine' has no statistic, each or whole"),
    ],
)
def test_what_cannot_be_used_is_found_when_the_plugin_loads(site, source, cause) -> None:
    site.install("mine", source)
    plugins = load_plugins([*own(), *site.entry_points()])
    (failure,) = plugins.failures()
    assert failure.error.startswith(cause)
    assert not any(
        "mine" in table for table in (plugins.registry.tasks, plugins.registry.methods, plugins.registry.metrics)
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('metrics = ("accuracy", "acuracy")', "names a metric 'acuracy', which does not exist"),
        ('head = "sequense"', "names a head 'sequense', which does not exist"),
        ('learner = "clasification"', "names a learner 'clasification', which does not exist"),
        ('best_metric = "macro-f1"', "names a best metric 'macro-f1' among its metrics"),
    ],
)
def test_a_task_that_names_what_nobody_provides_is_its_plugins_fault(site, line, told) -> None:
    site.install("mine", TASK.format(line=line))
    ended = gpt_tasks(site, "finetune", "mine", "--data", "x.csv")
    assert ended.returncode == 3
    assert f"Task 'mine' of plugin 'mine' (acme 1.2) {told}" in ended.stderr
    assert gpt_tasks(site, "finetune", "sentiment", "--help").returncode == 0


def test_what_no_plugin_raised_is_blamed_on_none(site) -> None:
    site.install("even", GOOD.format(name="even"))
    plugins = load_plugins([*own(), *site.entry_points()])
    with pytest.raises(ZeroDivisionError), plugins.attribute_errors():
        _ = 1 / 0
    with pytest.raises(UsageError), plugins.attribute_errors():
        plugins.registry.tasks["nothing"]


def test_what_no_plugin_raised_is_blamed_on_a_foreign_suspect_alone(site) -> None:
    site.install("even", GOOD.format(name="even"))
    plugins = load_plugins([*own(), *site.entry_points()])
    with (
        pytest.raises(PluginError, match=r"What plugin 'even' \(acme 1.2\) computes cannot be used: ZeroDivisionError"),
        plugins.attribute_errors(suspect=plugins.find("even")),
    ):
        _ = 1 / 0
    with pytest.raises(ZeroDivisionError), plugins.attribute_errors(suspect=plugins.find("learners")):
        _ = 1 / 0


def gpt_tasks(site, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process that finds what is installed in `site`."""
    return subprocess.run(
        [sys.executable, "-m", "gpt_tasks", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site.path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_installed_plugins_good_and_bad_meet_the_command_line(site) -> None:
    site.install("sarcasm", "print('hello from a plugin'); raise RuntimeError('no luck')")
    site.install("haiku", GOOD.format(name="haiku"), distribution="poems", version="0.3")
    told = "Plugin 'sarcasm' (acme 1.2) is left out: RuntimeError: no luck"

    shown = gpt_tasks(site, "--help")
    assert shown.returncode == 0
    assert "finetune" in shown.stdout
    assert "hello from a plugin" not in shown.stdout
    assert shown.stderr.splitlines()[-1:] == [told]

    listed = gpt_tasks(site, "list", "tasks", "--json")
    assert listed.returncode == 0
    listed_names = {task["name"] for task in json.loads(listed.stdout)["tasks"]}
    assert {"sentiment", "classification", "haiku"} < listed_names
    assert "sarcasm" not in listed_names

    plugins = gpt_tasks(site, "plugins", "--json")
    by_name = {plugin["name"]: plugin for plugin in json.loads(plugins.stdout)["plugins"]}
    assert by_name["haiku"]["brings"] == ["task haiku"]
    assert (by_name["sarcasm"]["distribution"], by_name["sarcasm"]["version"]) == ("acme", "1.2")
    assert by_name["sarcasm"]["error"] == "RuntimeError: no luck"

    wanted = gpt_tasks(site, "finetune", "sarcasm")
    assert wanted.returncode == PluginError.exit_code
    assert "no luck" in wanted.stderr.splitlines()[-2]
    assert "Traceback" not in wanted.stderr


@pytest.mark.parametrize(
    ("value", "strict"),
    [
        (None, False),
        ("", False),
        ("0", False),
        ("false", False),
        ("No", False),
        ("1", True),
        ("TRUE", True),
        ("yes", True),
    ],
)
def test_strict_is_a_boolean(monkeypatch, value, strict) -> None:
    monkeypatch.delenv("GPT_TASKS_STRICT", raising=False)
    if value is not None:
        monkeypatch.setenv("GPT_TASKS_STRICT", value)
    assert installed_plugins.__wrapped__().strict is strict


def test_another_value_of_strict_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("GPT_TASKS_STRICT", "maybe")
    with pytest.raises(UsageError, match="GPT_TASKS_STRICT=maybe: this is neither yes nor no"):
        installed_plugins.__wrapped__()

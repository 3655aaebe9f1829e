"""Flags act or are refused: one that is given twice, is empty or has no effect is a UsageError that names it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup

from gpt_tasks.errors import UsageError

# What an argument of these kinds holds is the user's text, and an empty text is one; of names the command has a rule.
TEXTS = ("TEXT", "PROMPT", "NAME")


class StrictGroup(TyperGroup):
    """A group of commands, of which none overlooks a flag: neither the group's own, nor one of a command of it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse what would be overlooked, then read the group's own arguments."""
        refuse_overlooked(self, ctx, args)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, and refuse what it would overlook, unless it has another parser of arguments."""
        found: Any = super().resolve_command(ctx, args)
        name, command, rest = found
        if type(command).parse_args is TyperCommand.parse_args:
            context = command.context_class(command, info_name=name, parent=ctx, **command.context_settings)
            refuse_overlooked(command, context, rest)
        return found


def refuse_overlooked(command: Any, context: Any, arguments: Iterable[str]) -> None:
    """Raise UsageError for a flag that is given twice, for equal values of a repeatable one, and for an empty value."""
    values, _, order = command.make_parser(context).parse_args(list(arguments))
    if any(parameter.is_eager for parameter in order):  # --help and --version end the command
        return
    for parameter, times in Counter(order).items():
        value = values[parameter.name]
        several = parameter.multiple or parameter.nargs == -1
        if isinstance(parameter, TyperArgument):
            name, empty = parameter.metavar or parameter.name, parameter.metavar not in TEXTS
        else:
            # Of --flag and --no-flag the last one is known only.
            name, empty = " or ".join([*parameter.opts, *parameter.secondary_opts]), True
            if times > 1 and not several:
                each = _given_values(parameter, list(arguments))
                raise UsageError(f"{name} is given {times} times{_shown(each)}", "Give it once.")
        found = list(value or ()) if several else [value]
        if empty and any(isinstance(each, str) and not each.strip() for each in found):
            raise UsageError(f"{name} '': the value is empty", "Give a value, or leave it out.")
        repeated = [each for each, count in Counter(found).items() if count > 1]
        if several and repeated and name not in TEXTS:
            raise UsageError(f"{name} {repeated[0]} is given twice", "Give each value once.")


def _given_values(parameter: Any, arguments: Sequence[str]) -> list[str]:
    """Return the values that a flag is given, in order; of a switch, the words that set it."""
    found = []
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if parameter.is_flag and name in (*parameter.opts, *parameter.secondary_opts):
            found.append(name)
        elif name in parameter.opts:
            found.append(value if equals else next(iter(arguments[place + 1 : place + 2]), ""))
    return found if not parameter.is_flag or len(set(found)) > 1 else []


def given(context: Any, names: Collection[str]) -> dict[str, Any]:
    """Return those of the parameters `names` that are given on the command line, also with their default value."""
    sources = {name: context.get_parameter_source(name) for name in context.params if name in names}
    return {name: context.params[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def refuse_given(context: Any, names: Collection[str], why: str, hint: str) -> None:
    """Raise UsageError for the first of the parameters `names` that is given: it would have no effect here."""
    values = given(context, names)
    for parameter in context.command.params:
        if parameter.name in values:
            raise UsageError(f"{parameter.opts[0]} {why}{_shown(values[parameter.name])}", hint)


def _shown(value: Any) -> str:
    """Return the value of a flag, or several, as a message ends with it; a switch has none."""
    if isinstance(value, bool) or value in (None, []):
        return ""
    return f": {', '.join(str(each) or repr('') for each in (value if isinstance(value, list | tuple) else [value]))}"

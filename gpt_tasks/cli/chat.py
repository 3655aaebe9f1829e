"""`gpt-tasks chat`: talk with a model in the terminal, or by lines through a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpt_tasks.cli.arguments import Device, NoVerify, WritingPrecision
from gpt_tasks.cli.generate import Remote
from gpt_tasks.cli.strict import given
from gpt_tasks.errors import DataError, GptTasksError, MachineError, UsageError
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.paths import user_path
from gpt_tasks.shown import tell, written

if TYPE_CHECKING:
    from gpt_tasks.generation.conversation import Conversation

app = typer.Typer(name="chat", rich_markup_mode=None, add_completion=False)

COMMANDS = {
    "/reset": "begin anew",
    "/save FILE": "add the conversation to a .jsonl file, from which finetune dialogue learns",
    "/load FILE": "continue the last conversation of such a file",
    "/quit": "end",
}


# What these settings are where the user says nothing; of the others "auto".
_UNSAID = {"trust_remote_code": False, "verify": True}


def _help(field: str) -> str:
    return Decoding.model_fields[field].description or ""


@app.command("chat")
def talk(
    context: typer.Context,
    *,
    model: Annotated[
        str,
        typer.Argument(
            help="A finished run of dialogue; a folder or a hub id of a model with a chat template; or a model of a "
            "registered responder, as in openai:NAME.",
            metavar="RUN_OR_MODEL",
            show_default=False,
        ),
    ],
    system: Annotated[str | None, typer.Option(help="The system prompt of the conversation.", metavar="TEXT")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Continue the last conversation of a file that /save wrote.", metavar="FILE"),
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help=_help("max_new_tokens"))] = None,
    temperature: Annotated[float | None, typer.Option(help=_help("temperature"))] = None,
    top_p: Annotated[float | None, typer.Option(help=_help("top_p"))] = None,
    top_k: Annotated[int | None, typer.Option(help=_help("top_k"))] = None,
    repetition_penalty: Annotated[float, typer.Option(help=_help("repetition_penalty"))] = 1.0,
    seed: Annotated[int, typer.Option(help=_help("seed"))] = 0,
    device: Device = "auto",
    precision: WritingPrecision = "auto",
    trust_remote_code: Remote = False,
    no_verify: NoVerify = False,
) -> None:
    """Talk with a model: a line is your turn, and its answer is shown as it comes.

    /reset begins anew, /save FILE adds the conversation to a .jsonl file to learn from, /load FILE continues it, /quit
    ends. Ctrl-C ends an answer, or clears the line; twice, it ends all. The oldest turns are forgotten where they no
    longer fit.
    """
    if system is not None and resume is not None:
        raise UsageError(
            f"--system has no effect with --resume {resume}: a conversation begins with its own", "Leave one out."
        )
    decoding = Decoding.checked(**given(context, Decoding.model_fields))
    how = {"device": device, "precision": precision, "trust_remote_code": trust_remote_code, "verify": not no_verify}
    chat = _open(model, decoding, system, how)
    if resume is not None:
        tell(f"{chat.load(user_path(resume, '--resume'))} turns of {resume} are continued")
    if sys.stdin.isatty():
        tell(f"{', '.join(COMMANDS)}; Ctrl-C ends an answer.")
    for line in _lines():
        if line.startswith("/"):
            name, _, argument = line.partition(" ")
            if name == "/quit":
                return
            _command(chat, name, argument.strip())
        elif line:
            _answer(chat, line)


def _open(model: str, decoding: Decoding, system: str | None, how: Mapping[str, Any]) -> Conversation:
    from gpt_tasks.generation.conversation import open_responder_chat

    set_by_user = {name: value for name, value in how.items() if value != _UNSAID.get(name, "auto")}
    chat = open_responder_chat(model, decoding, system=system, **set_by_user)
    if chat is not None:
        return chat
    from gpt_tasks.generation.chat import open_chat

    return open_chat(model, decoding, system=system, **how)


def _lines() -> Iterator[str]:
    """Yield what the user types, or the lines of a pipe, to the end."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        # Invalid bytes are reported when they are sent, and do not end the conversation.
        sys.stdin.reconfigure(errors="surrogateescape")
    if not sys.stdin.isatty():
        for line in sys.stdin:
            yield line.strip()
        return
    _edit_lines()
    cleared = False
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            if cleared:
                raise
            tell("Ctrl-C once more ends all; what is to be continued, /save first.")
            cleared = True
        else:
            cleared = False
            yield line


def _edit_lines() -> None:
    """Let arrow keys move in the line and recall earlier ones, where there is readline; every other byte is text."""
    with suppress(ImportError):
        readline: Any = import_module("readline")
        # In a locale without an encoding, readline takes bytes of other letters for commands.
        for setting in ("input-meta on", "convert-meta off", "output-meta on", "enable-meta-key off"):
            readline.parse_and_bind(f"set {setting}")
        # By itself it completes names of files.
        readline.set_completer(lambda *_: None)


def _answer(chat: Conversation, text: str) -> None:
    shown: list[str] = []

    def show(piece: str) -> None:
        shown.append(piece)
        print(written(piece, sys.stdout), end="", flush=True)

    def forgotten(turns: int) -> None:
        tell(f"The conversation no longer fits: the oldest {turns} turns are forgotten.")

    try:
        if not chat.answer(text, on_text=show, on_forgotten=forgotten):
            tell("The model has no answer to this; it was not said.")
    except KeyboardInterrupt:
        if not shown:
            tell("Stopped before the answer began; it was not said.")
    except DataError as error:
        tell(f"{error.message}. {error.hint}")
    except MachineError as error:
        # What is down now may answer the next time; through a pipe nobody tries again.
        if not sys.stdin.isatty():
            raise
        tell(f"{error.message}. {error.hint}")
    if shown:
        print(flush=True)


def _command(chat: Conversation, name: str, argument: str) -> None:
    if name == "/reset":
        chat.reset()
        tell("The conversation begins anew.")
    elif name in ("/save", "/load") and argument:
        try:
            file = user_path(argument, name)
            told = f"{chat.save(file)} turns were added to" if name == "/save" else f"{chat.load(file)} turns of"
        except GptTasksError as error:
            tell(f"{error.message}. {error.hint}")
        else:
            tell(f"{told} {file}" + ("" if name == "/save" else " are continued"))
    elif name in ("/save", "/load"):
        tell(f"{name}: which file? {name} FILE")
    else:
        tell(f"There is no {name}. There are: {', '.join(f'{each} ({what})' for each, what in COMMANDS.items())}.")

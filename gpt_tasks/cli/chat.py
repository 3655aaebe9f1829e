"""`gpt-tasks chat`: talk with a model in the terminal, or by lines through a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpt_tasks.cli.arguments import Device, NoVerify, WritingPrecision
from gpt_tasks.cli.generate import Remote
from gpt_tasks.cli.strict import given
from gpt_tasks.errors import DataError, GptTasksError, MachineError
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.paths import user_path

if TYPE_CHECKING:
    from gpt_tasks.generation.conversation import Conversation

app = typer.Typer(name="chat", rich_markup_mode=None, add_completion=False)

COMMANDS = {
    "/reset": "begin anew",
    "/save FILE": "add the conversation to a .jsonl file, from which finetune dialogue learns",
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

    /reset begins anew, /save FILE adds the conversation to a .jsonl file to learn from, /quit ends. Ctrl-C ends an
    answer. The oldest turns are forgotten where they no longer fit.
    """
    decoding = Decoding.checked(**given(context, Decoding.model_fields))
    how = {"device": device, "precision": precision, "trust_remote_code": trust_remote_code, "verify": not no_verify}
    chat = _open(model, decoding, system, how)
    if sys.stdin.isatty():
        _tell(f"{', '.join(COMMANDS)}; Ctrl-C ends an answer.")
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
    # With readline, the arrow keys move in the line and recall earlier lines.
    with suppress(ImportError):
        import_module("readline")
    while True:
        try:
            yield input("> ").strip()
        except EOFError:
            print()
            return


def _answer(chat: Conversation, text: str) -> None:
    shown: list[str] = []

    def show(piece: str) -> None:
        shown.append(piece)
        print(piece, end="", flush=True)

    def forgotten(turns: int) -> None:
        _tell(f"The conversation no longer fits: the oldest {turns} turns are forgotten.")

    try:
        if not chat.answer(text, on_text=show, on_forgotten=forgotten):
            _tell("The model has no answer to this; it was not said.")
    except KeyboardInterrupt:
        if not shown:
            _tell("Stopped before the answer began; it was not said.")
    except DataError as error:
        _tell(f"{error.message}. {error.hint}")
    except MachineError as error:
        # What is down now may answer the next time; through a pipe nobody tries again.
        if not sys.stdin.isatty():
            raise
        _tell(f"{error.message}. {error.hint}")
    if shown:
        print(flush=True)


def _command(chat: Conversation, name: str, argument: str) -> None:
    if name == "/reset":
        chat.reset()
        _tell("The conversation begins anew.")
    elif name == "/save" and argument:
        try:
            file = user_path(argument, name)
            turns = chat.save(file)
        except GptTasksError as error:
            _tell(f"{error.message}. {error.hint}")
        else:
            _tell(f"{turns} turns were added to {file}")
    elif name == "/save":
        _tell("/save: where to? /save FILE")
    else:
        _tell(f"There is no {name}. There are: {', '.join(f'{each} ({what})' for each, what in COMMANDS.items())}.")


def _tell(line: str) -> None:
    """Print a message that is not part of the conversation."""
    print(line, file=sys.stderr, flush=True)

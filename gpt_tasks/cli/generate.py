"""`gpt-tasks generate` and `gpt-tasks next`: what a model writes after a prompt."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gpt_tasks.cli.arguments import Device, Json, NoVerify, WritingPrecision
from gpt_tasks.cli.input import stdin_text
from gpt_tasks.cli.output import answering
from gpt_tasks.cli.strict import given
from gpt_tasks.generation.decoding import Decoding
from gpt_tasks.shown import print_table, written

app = typer.Typer(name="generate", rich_markup_mode=None, add_completion=False)
next_app = typer.Typer(name="next", rich_markup_mode=None, add_completion=False)

Model = Annotated[
    str, typer.Argument(help="A preset, a folder, a GGUF file, a hub id or a run.", metavar="MODEL", show_default=False)
]
Remote = Annotated[bool, typer.Option("--trust-remote-code", help="Let the model run its own Python code.")]


def _help(field: str) -> str:
    return Decoding.model_fields[field].description or ""


@app.command("generate")
def generate_text(
    context: typer.Context,
    *,
    model: Model,
    prompt: Annotated[
        str, typer.Argument(help="The text to continue; - for all of stdin.", metavar="PROMPT", show_default=False)
    ],
    max_new_tokens: Annotated[int | None, typer.Option(help=_help("max_new_tokens"))] = None,
    max_length: Annotated[int | None, typer.Option(help=_help("max_length"))] = None,
    temperature: Annotated[float | None, typer.Option(help=_help("temperature"))] = None,
    top_p: Annotated[float | None, typer.Option(help=_help("top_p"))] = None,
    top_k: Annotated[int | None, typer.Option(help=_help("top_k"))] = None,
    num_return_sequences: Annotated[int, typer.Option(help=_help("num_return_sequences"))] = 1,
    repetition_penalty: Annotated[float, typer.Option(help=_help("repetition_penalty"))] = 1.0,
    num_beams: Annotated[int, typer.Option(help=_help("num_beams"))] = 1,
    seed: Annotated[int, typer.Option(help=_help("seed"))] = 0,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help=_help("stop"), metavar="TEXT", show_default=False)
    ] = None,
    device: Device = "auto",
    precision: WritingPrecision = "auto",
    trust_remote_code: Remote = False,
    no_verify: NoVerify = False,
    as_json: Json = False,
) -> None:
    """Let a model continue a prompt. A single text is streamed, except with beams."""
    decoding = Decoding.checked(**given(context, Decoding.model_fields))
    from gpt_tasks.generation.generator import open_writer

    before = stdin_text() if prompt == "-" else prompt
    alone = not as_json and num_return_sequences == 1
    streaming = alone and num_beams == 1
    unshown = [before]  # until there is no more that can go wrong

    def show(piece: str) -> None:
        print(written("".join([*unshown, piece]), sys.stdout), end="", flush=True)
        unshown.clear()

    with answering(as_json) as answer:
        how = {"trust_remote_code": trust_remote_code, "verify": not no_verify}
        writer = open_writer(model, device=device, precision=precision, **how)
        (texts,) = writer.write([before], decoding, on_text=show if streaming else None)
        answer(
            {
                "model": model,
                "prompt": before,
                "texts": [{"text": each.text, "tokens": each.tokens, "finish": each.finish_reason} for each in texts],
                "settings": {**decoding.model_dump(mode="json"), "precision": writer.precision},
            }
        )
    if alone:
        show("\n" if streaming else f"{texts[0].text}\n")
    elif not as_json:
        for number, each in enumerate(texts, start=1):
            print(written(f"--- {number}\n{before}{each.text}", sys.stdout))


@next_app.command("next")
def next_tokens(
    *,
    model: Model,
    text: Annotated[str, typer.Argument(help="The text before the token.", metavar="TEXT", show_default=False)],
    top: Annotated[int, typer.Option(help="The number of tokens to show.", min=1)] = 10,
    device: Device = "auto",
    precision: WritingPrecision = "auto",
    trust_remote_code: Remote = False,
    no_verify: NoVerify = False,
    as_json: Json = False,
) -> None:
    """Show the likeliest next tokens after a text, with their probabilities."""
    from gpt_tasks.generation.generator import open_writer

    with answering(as_json) as answer:
        how = {"trust_remote_code": trust_remote_code, "verify": not no_verify}
        writer = open_writer(model, device=device, precision=precision, **how)
        found = writer.next_tokens(text, top)
        answer(
            {
                "model": model,
                "text": text,
                "next": [{"id": each.id, "text": each.text, "probability": each.probability} for each in found],
            }
        )
    if not as_json:
        print_table(
            ("probability", "token", "id"),
            [(f"{each.probability:.2%}", repr(each.text), str(each.id)) for each in found],
        )

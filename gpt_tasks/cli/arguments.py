"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

RunPath: TypeAlias = Annotated[
    Path, typer.Argument(help="The folder of a finished run.", metavar="RUN", show_default=False)
]
Column: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="The column of a field: FIELD=COLUMN, as in text=review. Repeatable.",
        metavar="FIELD=COLUMN",
        show_default=False,
    ),
]
Encoding: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--encoding",
        help="The encoding of text files, as in cp1251. Default: detected.",
        metavar="NAME",
        show_default=False,
    ),
]
SkipInvalid: TypeAlias = Annotated[
    bool, typer.Option("--skip-invalid", help="Leave out rows that cannot be used; they are counted.")
]
Cluster: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        help="A column, or a field, whose equal values belong together: errors, intervals and tests go by it.",
        metavar="COLUMN",
        show_default=False,
    ),
]
Device: TypeAlias = Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option("--device", help="Where to compute.")]
WritingPrecision: TypeAlias = Annotated[
    Literal["auto", "float32", "bf16", "int8"],
    typer.Option("--precision", help="auto: bf16 where it is native. int8: on a CPU, for models that write."),
]
DecodingSettings: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--decoding",
        help="How answers are written, as in num_beams=4 or temperature=0.7. Repeatable; see gpt-tasks generate.",
        metavar="NAME=VALUE",
        show_default=False,
    ),
]
NoVerify: TypeAlias = Annotated[
    bool, typer.Option("--no-verify", help="Open a run also where its files are not those that were trained.")
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")
]

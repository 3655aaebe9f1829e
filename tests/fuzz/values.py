"""Strategies for odd values, and for mutations of JSON, of texts and of bytes."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

DEEP = 3000
ODD_TEXTS = (
    "",
    " ",
    "\n",
    "a\nb",
    "\x00",
    "\x1b[31mred\x1b[0m",
    "\u202eright to left",
    "\ufeffmark",
    "x" * 200_000,
    "日本語のテキスト",
    "e\u0301" * 50,
    "🏳️‍🌈" * 20,
    "<|endoftext|>",
    "{{ 1/0 }}",
    "{% for x in range(10**9) %}{% endfor %}",
    "NaN",
    "null",
    "0",
    "1.0",
    "9" * 5000,
    "1_0",
    "../up",
    "--json",
    "-",
    "~",
    "~nosuchuser/x",
    "[[[",
    "a,b;c\t|d",
    '"',
    "'",
    "(a|a)*b",
)
ODD_NUMBERS = (0, -1, 1, 2, 0.0, -0.0, 0.5, 1e-300, 1e300, 2**31, 2**63, 10**30, float("nan"), float("inf"))

texts = st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=40))
numbers = st.one_of(st.sampled_from(ODD_NUMBERS), st.integers(), st.floats())
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)


@st.composite
def mutated_json(draw: st.DrawFn, value: Any) -> bytes:
    """A JSON document of which one to three parts were replaced, removed, renamed, repeated or added."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        value = _mutated(draw, value)
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    if draw(st.integers(0, 19)) == 0:
        text = text.replace(
            draw(st.sampled_from(["1", "0", "true", '"'])), draw(st.sampled_from(["9" * 5000, "[" * DEEP])), 1
        )
    data = text.encode("utf-8", errors="surrogatepass")
    return draw(mutated_bytes(data)) if draw(st.integers(0, 9)) == 0 else data


def _mutated(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        act = draw(st.integers(0, 9))
        if act == 0:
            del value[key]
        elif act == 1:
            value[draw(texts)] = value.pop(key)
        elif act == 2:
            value[draw(texts)] = draw(json_values)
        else:
            value[key] = _mutated(draw, value[key])
        return value
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        place = draw(st.integers(0, len(value) - 1))
        act = draw(st.integers(0, 9))
        if act == 0:
            del value[place]
        elif act == 1:
            value.append(copy.deepcopy(value[place]))
        else:
            value[place] = _mutated(draw, value[place])
        return value
    return draw(json_values)


@st.composite
def mutated_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes that were cut, flipped, repeated, emptied, encoded otherwise or had others put in."""
    place = draw(st.integers(0, max(0, len(data) - 1)))
    text = data.decode("utf-8", errors="replace")
    encoding = draw(st.sampled_from(["utf-16", "utf-16-le", "utf-32", "cp1252"]))
    flipped = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        if flipped:
            flipped[draw(st.integers(0, len(flipped) - 1))] ^= 1 << draw(st.integers(0, 7))
    made = {
        "cut": data[:place],
        "flipped": bytes(flipped),
        "with more": data[:place] + draw(st.binary(max_size=20)) + data[place:],
        "empty": b"",
        "with a mark": b"\xef\xbb\xbf" + data,
        "encoded otherwise": text.encode(encoding, errors="replace"),
        "turned": data[place:] + data[:place],
        "repeated": data + data[: place + 1],
    }
    return made[draw(st.sampled_from(sorted(made)))]

import json
from pathlib import Path

import gpt_tasks_counting

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def rows(name):
    lines = Path(gpt_tasks_counting.__file__).with_name(name).read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_next_number_is_the_next():
    for row in rows("next.jsonl"):
        *_, last = row["counted"].removesuffix(",").split(", ")
        assert WORDS.index(row["next"]) == WORDS.index(last) + 1


def test_the_larger_number_is_larger():
    assert all(WORDS.index(row["large"]) > WORDS.index(row["small"]) for row in rows("larger.jsonl"))

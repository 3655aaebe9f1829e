"""Named entities: the stretches of a text that name something, each with its type."""

import copy
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from gpt_tasks import (
    DataError,
    Display,
    Example,
    Fixtures,
    Generation,
    LabelOptions,
    Metric,
    Request,
    Response,
    Row,
    Statistic,
    Task,
    TaskCard,
    TaskOptions,
    TrainingExamples,
    choose_columns,
    extra_columns,
    known_label,
    most_frequent_spellings,
    refuse_unknown_fields,
    require_columns,
    text_of,
)
from gpt_tasks_plugins.ner.entities import Entities, Entity, marked, spans_of, tags_of
from gpt_tasks_plugins.ner.spans import Span, spans_of_export, spans_of_tags, text_of_tokens, words_of

TEXT, TOKENS, TAGS, SPANS = "text", "tokens", "tags", "spans"
# The names of the column of spans in exports; Label Studio has its text within `data`.
_SPAN_COLUMNS = ("spans", "entities", "label", "labels", "annotations")
_LONGEST = 128


class EntityOptions(LabelOptions):
    """The options of named entities."""

    labels: tuple[str, ...] | None = Field(None, min_length=1, description="The types, instead of the data's own.")
    on_misaligned: Literal["drop", "error"] | None = Field(
        None,
        description="Leave out a span that cuts a word, or refuse the row.",
        json_schema_extra={"reading": True},
    )


class NamedEntities(Task):
    """Find the names in a text, and the type of each."""

    name = "ner"
    columns: ClassVar[Mapping[str, str]] = {}
    prompt = "{text}"
    learner = "token-classification"
    head = "token"
    labels: tuple[str, ...] = ()
    on_misaligned: Literal["drop", "error"] = "error"
    metrics = ("entity_f1", "entity_macro_f1", "token_accuracy")
    own_metrics = (
        Metric("entity_f1", "F1 of entities: span and type are right.", range=(0.0, 1.0), aggregate="micro_f1"),
        Metric("entity_macro_f1", "Mean of the types' F1.", range=(0.0, 1.0), aggregate="macro_f1"),
        Metric("token_accuracy", "Share of words with the right tag.", range=(0.0, 1.0)),
        Metric("readable", "Share of written lines that name a stretch of the text.", range=(0.0, 1.0)),
    )
    best_metric = "entity_f1"
    has_confusion_matrix = True
    instruction = "Name the entities of each text, one a line, with their type.\n\n"
    Options: ClassVar[type[TaskOptions]] = EntityOptions

    def fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose tokens and tags where they are there, else a text and its spans."""
        refuse_unknown_fields(self.name, (TEXT, SPANS, TOKENS, TAGS), mapping)
        if TOKENS in mapping or TAGS in mapping or TOKENS in available:
            columns = {TAGS: next((name for name in ("tags", "ner_tags") if name in available), TAGS)}
            chosen = choose_columns((TOKENS, TAGS), columns, mapping)
        else:
            columns = {SPANS: next((name for name in _SPAN_COLUMNS if name in available), SPANS)}
            text = {TEXT: "data"} if "data" in available and TEXT not in available else {}
            chosen = choose_columns((TEXT, SPANS), {**columns, **text}, mapping)
        require_columns(chosen, available, where)
        return chosen

    def input_fields(self, available: Sequence[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
        """Choose the tokens or the text alone."""
        chosen = self.fields([*available, *(mapping.get(name, name) for name in (SPANS, TAGS))], mapping, where)
        return {field: column for field, column in chosen.items() if field in (TEXT, TOKENS)}

    def example(self, row: Row, columns: Mapping[str, str], extra: Sequence[str] = ()) -> Example:
        """Read one row; its target is its spans as JSON, with how many tags were repaired and spans left out."""
        repaired = 0
        spans: list[Span] | None = None
        if TOKENS in columns:
            text, places = text_of_tokens(row, columns[TOKENS])
            if TAGS in columns:
                spans, repaired = spans_of_tags(row, columns[TAGS], places)
        else:
            value = row.values.get(columns[TEXT])
            inner = Row(value, row.where) if isinstance(value, Mapping) else row
            text = text_of(inner, TEXT if isinstance(value, Mapping) else columns[TEXT])
            if SPANS in columns:
                spans = spans_of_export(row, columns[SPANS], text)
        if not text.strip():
            raise DataError(f"{row.where}: there is no word", "Leave the row out.")
        target = None if spans is None else self._target(row, text, spans, repaired)
        return Example({TEXT: text}, target, row.where, extra_columns(row, extra))

    def _target(self, row: Row, text: str, spans: Sequence[Span], repaired: int) -> str:
        words = words_of(text)
        starts, ends = {start for start, _ in words}, {end for _, end in words}
        whole = [span for span in spans if span.start in starts and span.end in ends]
        if len(whole) < len(spans) and self.on_misaligned == "error":
            cut = next(span for span in spans if span not in whole)
            raise DataError(
                f"{row.where}: the span {text[cut.start : cut.end][:40]!r} ({cut.type}) cuts a word",
                "Fix the span, or leave such spans out: --on-misaligned drop, in evaluate --option on_misaligned=drop.",
            )
        return json.dumps([whole, repaired, len(spans) - len(whole)], ensure_ascii=False)

    def fit(self, train: TrainingExamples, where: str) -> Self:
        """Take the types that the training data name, sorted, unless they were given."""
        task = copy.copy(self)
        counts = Counter(span.type for target, n in train.observed.items() for span in spans_of(target) * n)
        if not counts:
            raise DataError(f"{where}: no row names an entity", "There must be something to learn.")
        seen = most_frequent_spellings(counts, self.labels).values() if self.normalize_labels else counts
        task.labels = self.labels or tuple(sorted(set(seen)))
        return task

    def labels_of(self, target: str) -> tuple[str, ...]:
        """Return the types of the entities."""
        return tuple(dict.fromkeys(span.type for span in spans_of(target)))

    def normalize_label(self, target: str, where: str) -> str:
        """Return the spans, their types as the model has them. Raises DataError for a type that it does not know."""
        spans, *counts = json.loads(target)
        found = []
        for start, end, kind in spans:
            known = known_label(kind, self.labels, normalized=self.normalize_labels)
            if known is None:
                raise DataError(
                    f"{where}: the type '{kind}' is not one of {', '.join(self.labels)}",
                    "Fix the row, or leave it out.",
                )
            found.append((start, end, known))
        return json.dumps([found, *counts], ensure_ascii=False)

    def references(self, example: Example) -> list[list[Any]]:
        """Return the right spans, as one answer."""
        return [[list(span) for span in spans_of(example.target)]]

    def plain(self, prediction: Entities) -> list[list[Any]]:
        """Return the spans."""
        return [[each.start, each.end, each.type] for each in prediction.entities]

    def score(self, example: Example, prediction: Entities) -> Mapping[str, Statistic]:
        """Count right, surplus and missing entities, over all and by type, and the words whose tag is right."""
        right, given = set(spans_of(example.target)), {Span(e.start, e.end, e.type) for e in prediction.entities}
        counts = [
            (len(_of(right & given, kind)), len(_of(given - right, kind)), len(_of(right - given, kind)))
            for kind in self.labels
        ]
        words = words_of(example.inputs[TEXT])
        same = sum(a == b for a, b in zip(tags_of(words, right), tags_of(words, given), strict=True))
        share = prediction.readable / prediction.lines if prediction.lines else 1.0
        return {
            "entity_f1": Statistic(tuple(float(sum(column)) for column in zip(*counts, strict=True))),
            "entity_macro_f1": Statistic(tuple(float(number) for three in counts for number in three)),
            "token_accuracy": Statistic(same / max(1, len(words)), len(words)),
            "readable": Statistic(share, prediction.lines),
        }

    def decisions(self, example: Example, prediction: Entities) -> Iterable[tuple[str | None, str | None]]:
        """Pair the types of spans that are right with those given for the same characters."""
        right = {(span.start, span.end): span.type for span in spans_of(example.target)}
        given = {(each.start, each.end): each.type for each in prediction.entities}
        return [(right.get(place), given.get(place)) for place in dict.fromkeys([*right, *given])]

    def confidence(self, prediction: Entities) -> float | None:
        """Return the probability of the least certain word."""
        return prediction.probability

    def to_json(self, prediction: Entities) -> dict[str, Any]:
        """Return the entities with their characters, types, texts and probabilities."""
        return {
            "predicted": [
                {
                    "start": each.start,
                    "end": each.end,
                    "type": each.type,
                    "text": each.text,
                    "probability": round(each.probability, 6),
                }
                for each in prediction.entities
            ]
        }

    def pipeline_output(self, example: Example, prediction: Entities) -> Any:
        """Return each word with its tag."""
        text = example.inputs[TEXT]
        words = words_of(text)
        tags = tags_of(words, {Span(each.start, each.end, each.type) for each in prediction.entities})
        sure = {place: each.probability for each in prediction.entities for place in range(each.start, each.end)}
        return [
            {
                "entity": tag,
                "score": sure.get(start),
                "index": index,
                "word": text[start:end],
                "start": start,
                "end": end,
            }
            for index, ((start, end), tag) in enumerate(zip(words, tags, strict=True))
        ]

    def line(self, example: Example, prediction: Entities) -> Mapping[str, Any]:
        """Return the text, the right spans and the entities."""
        return {**example.inputs, "references": self.references(example)[0], **self.to_json(prediction)}

    def to_text(self, prediction: Entities) -> str:
        """Return the entities by type."""
        return ", ".join(f"{each.text} ({each.type})" for each in prediction.entities) or "-"

    def display(self, example: Example, prediction: Entities) -> Display:
        """Return the text with the right entities marked, and with those that were found."""
        text = example.inputs[TEXT]
        right = [Entity(span.start, span.end, span.type, "") for span in spans_of(example.target)]
        return {TEXT: text}, (marked(text, right),), marked(text, prediction.entities)

    def table_row(self, text: str, prediction: Entities) -> Mapping[str, str]:
        """Return the text with its entities marked, each with its probability."""
        return {"text": marked(text, prediction.entities, probabilities=True)}

    def card(self) -> TaskCard:
        """Return what a model card says of entities."""
        return TaskCard(
            answers="entities",
            does=f"answers {{task}} with the entities of a text, of {len(self.labels)} types",
            limits=(
                "It knows only these types, and entities that do not overlap.",
                "It reads from left to right: what follows a word does not help to recognize it.",
            ),
            baselines="It is compared with no entities at all, and with the longest matches of the training data's. ",
            headline="entity_f1",
            pipeline_tag="token-classification",
            saved="the head (`head.safetensors`) and the task with its types",
        )

    def fixtures(self) -> Fixtures:
        """The right entities, another row's tags, a much longer text."""

        def gold(example: Example) -> Entities:
            text = example.inputs[TEXT]
            found = [Entity(*span, text[span.start : span.end]) for span in spans_of(example.target)]
            return Entities(tuple(found), len(found), len(found))

        def retarget(row: Row, other: Row, columns: Mapping[str, str]) -> Row:
            values = dict(row.values)
            values[columns[TAGS]] = ["O" if tag != "O" else f"B-{self.labels[0]}" for tag in values[columns[TAGS]]]
            return Row(values, row.where)

        return Fixtures(
            gold=gold,
            retarget=retarget,
            lengthen=lambda example: Example(
                {TEXT: example.inputs[TEXT] + " Nothing is named here." * 40}, example.target, example.where
            ),
            target_labels=lambda row: {tag.partition("-")[2] for tag in row.values.get(TAGS, ()) if tag != "O"},
            any_predictions=lambda example: [Entities(()), Entities((Entity(0, 1, self.labels[0], "x"),), 0, 3)],
        )

    @property
    def zero_shot_metrics(self) -> Sequence[str]:
        """How many of the written lines can be read, too."""
        return (*self.metrics, "readable")

    def requests(self, example: Example, context: str) -> list[Request]:
        """Ask the model to write a line for each entity."""
        return [Generation(context + self._asked(example), ("\n\n", "Text:"), _LONGEST)]

    def prediction(self, example: Example, responses: Sequence[Response]) -> Entities:
        """Find the entities that were written as `TYPE: words`, each at its first place behind the one before it."""
        lines = [line.strip() for line in str(responses[0]).splitlines() if line.strip()]
        text, found, readable, place = example.inputs[TEXT], [], 0, 0
        for line in lines:
            kind, _, name = (part.strip() for part in line.partition(":"))
            start = text.find(name, place) if name else -1
            if line == "none" or (kind in self.labels and start >= 0):
                readable += 1
            if kind in self.labels and start >= 0:
                place = start + len(name)
                found.append(Entity(start, place, kind, name))
        return Entities(tuple(found), readable, len(lines))

    def fewshot_example(self, example: Example) -> str:
        """Return the text with a line for each of its entities."""
        text = example.inputs[TEXT]
        lines = [f"{span.type}: {text[span.start : span.end]}" for span in spans_of(example.target)] or ["none"]
        return self._asked(example) + "\n".join(lines)

    def _asked(self, example: Example) -> str:
        """Return the text, and of which types entities are."""
        return f"Text: {example.inputs[TEXT]}\nEntities ({', '.join(self.labels)}):\n"


def _of(spans: Iterable[Span], kind: str) -> list[Span]:
    return [span for span in spans if span.type == kind]

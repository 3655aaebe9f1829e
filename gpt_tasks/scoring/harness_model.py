"""Our engine as lm-evaluation-harness wants a model.

Where lm-evaluation-harness is not installed, importing this module raises UsageError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpt_tasks.errors import DataError, ModelError, UsageError
from gpt_tasks.shown import tell
from gpt_tasks.tasks.chat_template import rendering
from gpt_tasks.types import Continuation, Generation, Request, Rolling

try:
    from lm_eval.api.model import LM  # type: ignore[import-untyped]
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "lm_eval":
        raise
    raise UsageError("lm-evaluation-harness is not installed", 'pip install "gpt-tasks[lm-eval]"') from None

if TYPE_CHECKING:
    from gpt_tasks.scoring.scorer import Scorer

MAX_TOKENS = 256
"""How many tokens are generated where a task does not say, as by lm-evaluation-harness's own models."""
# Its command's default, on a machine without a GPU too.
_DEFAULT_DEVICE = "cuda:0"
# Settings that greedy decoding ignores, or that are read.
_GREEDY = {"until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k"}


class ModelArguments(BaseModel):
    """What `--model_args` can hold, as NAME=VALUE; the names are those of `gpt-tasks score`."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    pretrained: str = Field(description="A preset, a folder, a hub id or a finished run.")
    precision: Literal["auto", "float32", "bf16"] = "float32"
    device: str = "auto"
    engine: Literal["trie", "plain"] = "trie"
    batch_tokens: int | None = Field(None, ge=1)
    trust_remote_code: bool = False


class HarnessModel(LM):  # type: ignore[misc]
    """A Scorer as lm-evaluation-harness wants a model. Every process gets all requests; the Scorer shares them out."""

    def __init__(self, scorer: Scorer, say: Callable[[str], None]) -> None:
        super().__init__()
        self.scorer = scorer
        self.tokenizer = scorer.tokenizer
        self._say = say
        self._said: set[str] = set()
        self._template: str | None = None

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: Mapping[str, Any], additional_config: Mapping[str, Any] | None = None
    ) -> HarnessModel:
        """Load the model that `--model_args` and `--device` ask for. Batches are by tokens: `--batch_size` is unused.

        Raises UsageError, ModelError or MachineError.
        """
        device = (additional_config or {}).get("device")
        chosen = {} if device in (None, _DEFAULT_DEVICE) else {"device": device}
        from gpt_tasks.scoring.scorer import open_scorer

        try:
            arguments = ModelArguments.model_validate({**chosen, **arg_dict})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            known = ", ".join(ModelArguments.model_fields)
            raise UsageError(f"--model_args {name}: {first['msg']}", f"It knows {known}.") from error
        _, scorer = open_scorer(
            arguments.pretrained,
            device=arguments.device,
            precision=arguments.precision,
            engine=arguments.engine,
            batch_tokens=arguments.batch_tokens,
            trust_remote_code=arguments.trust_remote_code,
        )
        return cls(scorer, tell)

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: Mapping[str, Any] | None = None
    ) -> HarnessModel:
        """Load the model that `NAME=VALUE,NAME=VALUE` asks for, as `create_from_arg_obj` does."""
        from lm_eval.utils import simple_parse_args_string  # type: ignore[import-untyped]

        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @property
    def tokenizer_name(self) -> str:
        """The name that separates its cached requests from those of another tokenizer."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    @property
    def eot_token_id(self) -> int | None:
        """The token that ends a text; saved in its results."""
        token: int | None = self.tokenizer.eos_token_id
        return token

    @property
    def max_length(self) -> int:
        """The most tokens that are read at once; saved in its results."""
        return self.scorer.tokenization.max_length

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return each continuation's log-likelihood in nats, and whether greedy decoding would say it."""
        answers = self._answer([Continuation(*request.args) for request in requests])
        return [(answer.value, answer.is_greedy) for answer in answers]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Return each text's log-likelihood in nats; that of a text without tokens is 0."""
        texts = [str(request.args[0]) for request in requests]
        answers = iter(self._answer([Rolling(text) for text in texts if text]))
        return [next(answers).value if text else 0.0 for text in texts]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Return what greedy decoding writes, up to a stop text. Raises UsageError where a task asks for more."""
        return list(self._answer([_generation(*request.args) for request in requests]))

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the tokenizer's template, None for False; a name chooses among several, for the chats to come too.

        Raises ModelError where the tokenizer has none, UsageError for a name that it does not know.
        """
        if not chat_template:
            return None
        templates = self._templates()
        if isinstance(templates, dict):
            name = chat_template if isinstance(chat_template, str) else "default"
            if name not in templates:
                raise UsageError(
                    f"--apply_chat_template {name}: the tokenizer has no template of this name",
                    f"It has {', '.join(sorted(templates))}.",
                )
            self._template = name
            return str(templates[name])
        return str(templates)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return a chat as text; without `add_generation_prompt` its last message is left open, to be continued.

        A template that refuses the messages (many know no system) gets them without those of the system. Raises
        ModelError where the tokenizer has no template.
        """

        def rendered(messages: list[dict[str, str]]) -> str:
            with rendering(template, "A request"):
                text: Any = self.tokenizer.apply_chat_template(
                    messages,
                    chat_template=self._template,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                )
            return str(text)

        templates = self._templates()
        template = templates if isinstance(templates, str) else templates.get(self._template or "default", "")
        try:
            return rendered(chat_history)
        except DataError:
            return rendered([message for message in chat_history if message["role"] != "system"])

    def _templates(self) -> str | dict[str, str]:
        templates: str | dict[str, str] | None = self.tokenizer.chat_template
        if not templates:
            raise ModelError("The tokenizer has no chat template", "Leave --apply_chat_template out.")
        return templates

    def _answer(self, requests: Sequence[Request]) -> list[Any]:
        answered = self.scorer.answer(requests)
        for note in answered.notes:
            if note not in self._said:
                self._said.add(note)
                self._say(note)
        return answered.answers


def _generation(context: str, options: Mapping[str, Any]) -> Generation:
    """The generation that a task asks for. Its other names for the number of tokens are read too."""
    from lm_eval.models.utils import normalize_gen_kwargs  # type: ignore[import-untyped]

    settings = normalize_gen_kwargs(dict(options), MAX_TOKENS)
    odd = [name for name in settings if name not in _GREEDY and (name, settings[name]) != ("num_beams", 1)]
    if settings["do_sample"]:
        odd += [name for name in ("do_sample", "temperature") if options.get(name)]
    if odd:
        asked = ", ".join(f"{name}={options[name]}" for name in odd)
        raise UsageError(
            f"The model 'gpt-tasks' writes greedily, it cannot follow {asked}",
            "Change it with --gen_kwargs, or take the model 'hf'.",
        )
    return Generation(context, tuple(filter(None, settings["until"])), settings["max_gen_toks"])

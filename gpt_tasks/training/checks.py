"""What is refused before any data are read: settings that would have no effect, or that the learner cannot take."""

from __future__ import annotations

from typing import Any

from gpt_tasks.backbone.locate import Location
from gpt_tasks.errors import UsageError
from gpt_tasks.extensions import Method
from gpt_tasks.plugins import Plugins
from gpt_tasks.tasks.base import Task
from gpt_tasks.tasks.options import refuse_useless_options
from gpt_tasks.training.config import FinetuneConfig

USELESS_WHERE_FROZEN = (
    "epochs",
    "learning_rate",
    "warmup",
    "layer_lr_decay",
    "weight_decay",
    "optimizer",
    "freeze_layers",
    "accumulate",
    "patience",
    "best_by",
    "lm_weight",
    "gradient_checkpointing",
    "checkpoint_steps",
)


def refuse_useless(config: FinetuneConfig, task: Task, method: Method) -> None:
    """Raise UsageError for a setting or an option that is given and has no effect, and for a method that is not for the
    task.
    """
    if task.head is None and (method.frozen or method.saved_separately):
        does, has = "is for tasks with a head", "is answered by the model alone"
        if method.frozen:
            does, has = "fits a head on a frozen backbone", "has none"
        raise UsageError(f"--method {config.method} {does}; task '{task.name}' {has}", "Take --method full or lora.")
    useless: dict[str, str] = {}
    if config.data is None and config.validation is None and config.test is None:
        useless |= dict.fromkeys(("encoding", "skip_invalid"), "is for --data, and the task's own samples are read")
    if method.frozen:
        why = f"is of no use with --method {config.method}, which fits the head at once"
        useless |= dict.fromkeys(USELESS_WHERE_FROZEN, why)
    if method.name == "full":
        useless["backbone_by_reference"] = "is of no use with --method full, which trains every weight of the backbone"
    if not method.adapter:
        useless["keep_adapter"] = f"is of no use with --method {config.method}, which trains no adapter"
        useless["load_in"] = (
            f"is of no use with --method {config.method}: only an adapter is trained beside such weights"
        )
    elif config.backbone_by_reference:
        useless["keep_adapter"] = "is of no use with --backbone-by-reference, which keeps it"
    for name, why in useless.items():
        value = getattr(config, name)
        if name in config.model_fields_set and value is not None and value is not False:
            shown = "" if isinstance(value, bool) else f": {value}"
            raise UsageError(f"--{name.replace('_', '-')} {why}{shown}", "Leave it out.")
    refuse_useless_options(task.Options, config.options, "trained", task.name)


def check_reference(config: FinetuneConfig, location: Location, plugins: Plugins) -> None:
    """Raise UsageError where a private run would keep the path of its backbone."""
    named = location.commit or location.spec in plugins.registry.backbones
    keeping = [name for name in ("backbone_by_reference", "keep_adapter") if getattr(config, name)]
    if keeping and config.private and not named:
        raise UsageError(
            f"--{keeping[0].replace('_', '-')} keeps the path of the backbone's folder, and --private keeps no full "
            "paths",
            "Leave one of them out, or name a preset or a model of the hub as the backbone.",
        )


def check_machine(config: FinetuneConfig, location: Location) -> None:
    """Raise MachineError where this machine lacks what settings need, UsageError where the backbone cannot be so."""
    from gpt_tasks.backbone.precision import resolve_device
    from gpt_tasks.backbone.quantized import NEEDING_BITSANDBYTES, check_bitsandbytes
    from gpt_tasks.backbone.reference import refers

    needing = f"--optimizer {config.optimizer}" if config.optimizer in NEEDING_BITSANDBYTES else ""
    if config.load_in:
        needing = f"--load-in {config.load_in}"
        if location.gguf or refers(location.folder):
            raise UsageError(
                f"{needing}: the weights in {location.spec} are not those of a plain model in safetensors",
                "Leave it out, or save the model as a folder first.",
            )
    if needing:
        check_bitsandbytes(needing, resolve_device(config.device))


def check_learner(config: FinetuneConfig, task: Task, method: Method, plugins: Plugins) -> None:
    """Raise UsageError for settings that the task's learner cannot take, or a metric that is none, and MachineError for
    a device that is not there. Imports torch.
    """
    from gpt_tasks.backbone.precision import resolve_device, resolve_precision
    from gpt_tasks.learners.base import Learner, LearnerSettings

    registry = plugins.registry
    device = resolve_device(config.device)
    resolve_precision(config.precision, device)
    registry.metrics_of(task, [*task.metrics, *config.metric])
    kind: type[Learner[Any]] = registry.learners[str(task.learner)].load()
    settings = LearnerSettings(config.max_length, 0, "float32", device, class_weights=config.class_weights)
    learner = kind(task, None, settings)  # type: ignore[arg-type]
    learner.check(config.lm_weight)
    if config.counts and not learner.can_count:
        raise UsageError(
            f"--method {config.method} counts words beside the model, and the learner of task '{task.name}' cannot: it "
            "is for labels and numbers of whole texts",
            f"Take --method {config.tuning}.",
        )
    if method.frozen and task.head is not None:
        head = registry.heads[task.head]
        head = registry.heads[head.frozen] if head.frozen else head
        if not kind.fits(head.build(8, 2)):
            raise UsageError(
                f"--method {config.method} fits a head on a frozen backbone, and the learner of task '{task.name}' "
                f"cannot fit its head '{head.name}' so",
                "Take --method full or lora.",
            )

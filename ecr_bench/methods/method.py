"""What a method and a modifier are: what they declare, the options they take, and the hooks they may override.

Nothing here needs torch, so that what exists can be listed, checked and planned at once; a hook that computes imports
what it needs. What is trained is one LightningModule for all arms (``methods.module``), which asks the parts of its
recipe (``methods.recipe``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ecr_bench.arm import Role
from ecr_bench.options import NoOptions

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from ecr_bench.config import Experiment
    from ecr_bench.data.cutting import TextRow
    from ecr_bench.data.encode import Example
    from ecr_bench.data.module import Variation
    from ecr_bench.ecr.anchors import Anchors
    from ecr_bench.ecr.codes import CodeSource
    from ecr_bench.ecr.conditioner import Conditioner
    from ecr_bench.ecr.projection import Projection
    from ecr_bench.methods.distill import Distill
    from ecr_bench.methods.module import ArmModule
    from ecr_bench.methods.recipe import Recipe
    from ecr_bench.section import Section
    from ecr_bench.sections import ControlTokensConfig, TeacherConfig
    from ecr_bench.types import Item

Encode = Callable[["Conditioner"], Sequence["Example"]]
"""Encodes a fixed list of rows under a conditioner, in their order."""


@dataclass(frozen=True)
class Ingredients:
    """What a method may build its codes from. The anchor fields are None unless ``uses_anchors``."""

    tokenizer: PreTrainedTokenizerBase
    control_tokens: ControlTokensConfig
    languages: tuple[str, ...]
    k: int
    levels: int
    hidden_size: int
    """Width of the base model's embeddings."""
    anchors: Anchors | None = None
    projection: Projection | None = None
    pool: torch.Tensor | None = None
    """Codes (P, m) int64 of training texts, for the ``shuffled`` control."""
    teacher: TeacherConfig | None = None


@dataclass(frozen=True)
class Training:
    """What a part that learns from more than the batch may look at before training."""

    given: Ingredients
    conditioner: Conditioner
    items: Sequence[Item]
    texts: Sequence[TextRow]
    """Training rows before encoding, items first: ``batch["rows"]`` indexes items + texts."""
    window: int
    """The model's context in tokens."""
    seed: int
    settings: Mapping[str, Any]
    """The ``sections`` asked for."""
    folders: Mapping[str, Path]
    """Folders of the stages this one builds on, by role."""
    held_out: Sequence[Item] = ()
    """Validation items, for what is chosen after training; never trained on."""
    pretraining: bool = False
    """Whether a base model is trained: ``items`` is empty and all ``texts`` are whole."""


OF_A_WHOLE_MODEL = ("before_step", "save_model", "save_beside")
"""Hooks that read or change the model outside its loss."""


class Part:
    """What methods and modifiers share: options, and hooks into training.

    The first line of the docstring is what ``ecr-bench methods`` prints. All hooks have a default; ``loss``,
    ``save_model`` and ``base_precision`` may be overridden by one part of an arm only.
    """

    Options: ClassVar[type[Section]] = NoOptions
    """The options it takes: declare a class of this name inside, and ``options: Options``."""
    uses_anchors: ClassVar[bool] = False
    """Whether the anchor stage must run before training."""
    sections: ClassVar[tuple[str, ...]] = ()
    """Shared sections of the experiment that this part reads in addition; ``Training.settings`` holds them."""
    follows_model: ClassVar[bool] = False
    """Whether it changes codes during training and then calls ``ArmModule.encode_again``."""
    adds_up: ClassVar[bool] = False
    """Whether a ``loss`` of its own, where several devices share a batch, gives each its part of a sum: it weighs by
    counts over all of them (``methods.base.position_weights``, ``ranks.summed``). Without that its arm is trained on
    one device."""

    trains_weights: ClassVar[bool] = True
    """False for a part that leaves the weights of the model as they are and trains others beside them."""

    options: Section

    def __init__(self, name: str, options: Section | None = None):
        self.name = name
        self.options = self.Options() if options is None else options

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions the arm is scored at; empty for those of the experiment."""
        return ()

    @property
    def base_precision(self) -> str | None:
        """Precision the base model is quantised to before training, if it is."""
        return None

    @property
    def larger(self) -> Distill.Options | None:
        """The larger plain model that must be trained first, to learn from."""
        return None

    def check(self, experiment: Experiment) -> None:
        """Raise UserError for an experiment this part cannot be used in. Called before anything runs."""

    def prepare(self, module: ArmModule, training: Training) -> None:
        """Called once before training. Torch modules and buffers that are put on ``module`` are trained and moved
        with the model (with ``requires_grad`` off: moved only). It may exchange ``module.model``."""

    def variation(self, encode: Encode) -> Variation | None:
        """How training rows vary between draws, if they do; ``encode`` gives all of them under a conditioner."""
        return None

    def before_step(self, module: ArmModule, step: int) -> None:
        """Called before each optimiser step, counted from 0."""

    def keep(self, module: ArmModule, folder: Path) -> None:
        """Write into ``folder``, which is not there yet, what training has changed so far beside parameters, buffers
        and random states, so that a training that was killed can go on. A part with ``before_step`` needs it."""

    def take_up(self, module: ArmModule, folder: Path) -> None:
        """Go on from what ``keep`` wrote; ``folder`` is not there where it wrote nothing. Called before ``loss``."""

    def alone(self, strategy: str) -> str:
        """Why its arm cannot be trained on several devices with ``strategy``; empty where it can."""
        own = [hook for hook in ("loss", *OF_A_WHOLE_MODEL) if getattr(type(self), hook) is not getattr(Part, hook)]
        if "loss" in own and not self.adds_up:
            return "has a loss of its own that does not say that it adds up over devices (Part.adds_up)"
        if self.base_precision is not None:
            return f"quantises the model to {self.base_precision}"
        if strategy == "fsdp2" and (looks := [hook for hook in own if hook != "loss"]):
            return f"looks at the whole model ({looks[0]}), of which fsdp2 gives each device a share; ddp does not"
        return ""

    @property
    def changes_unsaid(self) -> bool:
        """Whether it changes things between steps that no checkpoint has: its arm is then trained from the start."""
        return type(self).before_step is not Part.before_step and type(self).keep is Part.keep

    def loss(self, module: ArmModule, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Scalar training loss of one batch (``input_ids``, ``labels`` (B, T) int64, ``rows`` (B,) int64)."""
        return module.cross_entropy(batch)

    def adapter_parameters(self, module: ArmModule) -> int:
        """Numbers trained and stored in addition to the base model's."""
        return 0

    def beside(self, module: ArmModule) -> tuple[int, int]:
        """Numbers and bytes stored beside the model for this part, control tokens left out. Called last."""
        return 0, 0

    def save_beside(self, module: ArmModule, folder: Path) -> None:
        """Called when training has ended and the model is saved in ``folder``: fit and write what lies beside it."""

    def save_model(self, module: ArmModule, folder: Path) -> None:
        """Write the trained model so that ``folder`` can be scored."""
        module.model.save_pretrained(folder)


class Method(Part):
    """Where control tokens come from, and what is trained. Subclass, give ``source``, register: a new method."""

    role: ClassVar[Role] = Role.CONTENDER
    """The part it plays in a comparison. Not inherited: a variant is a contender unless it says otherwise."""
    uses_control_tokens: ClassVar[bool] = True
    """Whether the control-token settings can change this method's result."""
    uses_teacher: ClassVar[bool] = False
    """Whether the teacher is asked in training and at test time (which rules out deployment)."""
    distils_teacher: ClassVar[bool] = False
    """Whether the teacher is asked in pre-training, and never again."""
    projects: ClassVar[bool] = False
    """Whether its codes are anchors of the projection, so that another projection gives other codes."""
    embeds: ClassVar[bool] = False
    """Whether it puts vectors of its own in at the model's input embedding."""
    drop_cue: ClassVar[bool] = False
    """Whether the text is hidden from the model (codes only)."""
    trains_model: ClassVar[bool] = True
    """False for a probe, which has no language model (``methods.probe``)."""

    def alone(self, strategy: str) -> str:
        if strategy == "fsdp2" and self.embeds:
            return "puts vectors into the model's embedding, of which fsdp2 gives each device a share; ddp does not"
        return super().alone(strategy)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.role = vars(cls).get("role", Role.CONTENDER)

    def pretrained_as(self, control_tokens: ControlTokensConfig) -> Method | None:
        """The method whose hooks its base model is pre-trained with; None for the plain base.

        With control tokens from pre-training on it is the method itself. Override it to share the base of a method
        that has the same codes (``codes-only``), or to have a part in pre-training in any case.
        """
        from_there = control_tokens.begin == "pretraining" and control_tokens.count > 0
        return self if self.uses_control_tokens and from_there else None

    def go_on(self, conditioner: Conditioner, base: Path) -> None:
        """Called before fine-tuning where the base was pre-trained with control tokens; ``base`` is the folder of the
        conditioner it was saved with. The rows of the tokens are in the model already."""

    def source(self, given: Ingredients) -> CodeSource | None:
        """Where this arm's codes come from; None for no control tokens."""
        raise NotImplementedError

    def conditioner(self, given: Ingredients) -> Conditioner:
        """The conditioner this arm is trained, scored and shipped with."""
        from ecr_bench.ecr.conditioner import Conditioner
        from ecr_bench.ecr.control_tokens import ControlTokens

        count = given.control_tokens.count
        source = self.source(given) if count else None
        if source is None:
            return Conditioner(given.tokenizer, drop_cue=self.drop_cue)
        tokens = ControlTokens(len(given.tokenizer), given.k, given.levels)
        return Conditioner(given.tokenizer, source, tokens, count, given.control_tokens.placement, self.drop_cue)


class Modifier(Part):
    """What is added to a method: to its rows, its loss, its projection or its weights."""

    def misfit(self, recipe: Recipe) -> str:
        """Why this modifier cannot be combined with the rest of ``recipe``; empty where it can."""
        return ""

"""Control tokens that follow the model. The paper does not say when codes are computed: here, more than once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ecr_bench.errors import UserError
from ecr_bench.methods.method import Modifier, Training
from ecr_bench.section import Section

if TYPE_CHECKING:
    from pathlib import Path

    from ecr_bench.config import Experiment
    from ecr_bench.ecr.codes import ProjectionCodes
    from ecr_bench.methods.module import ArmModule
    from ecr_bench.methods.recipe import Recipe


class Refresh(Modifier):
    """Fits the projection again several times in training, on the hidden states the model then has."""

    # Anchors stay: they are the teacher's. What moves is the student's side, so the affine map (or MLP) is fitted
    # anew on the kept targets and every row's codes are computed again, training and validation rows alike.

    class Options(Section):
        """When codes are computed again."""

        times: int = Field(default=3, ge=0, le=1_000)
        """Refreshes, evenly spaced over fine-tuning (start and end excluded); 0 leaves the method as it is."""

    options: Options
    uses_anchors = True
    follows_model = True
    sections = ("projection",)

    def misfit(self, recipe: Recipe) -> str:
        if not recipe.method.projects:
            return f"{recipe.method.name} takes no codes from the projection"
        saver = recipe.owner("save_model")
        return "" if saver is recipe.method else f"the projection keeps a copy of the model, which {saver.name} wraps"

    def check(self, experiment: Experiment) -> None:
        from ecr_bench.ecr.projection import PROJECTIONS

        if not PROJECTIONS.get(kind := experiment.projection.kind).reads_model:
            fit = [name for name in PROJECTIONS if PROJECTIONS.get(name).reads_model]
            raise UserError(f"projection.kind: refresh needs {' or '.join(fit)}; {kind} does not follow the model")

    def prepare(self, module: ArmModule, training: Training) -> None:
        from ecr_bench.ecr.targets import load_targets
        from ecr_bench.sections import ProjectionConfig

        self.projection = ProjectionConfig(**training.settings["projection"])
        self.seed = training.seed
        self.done = False
        self.token_ids, self.targets = load_targets(training.folders["anchors"] / "targets.safetensors")

    def before_step(self, module: ArmModule, step: int) -> None:
        if module.conditioner.source is None:
            return  # no control tokens, so no code to compute again
        steps, times = module.optimiser.steps, self.options.times
        if step in {round(steps * i / (times + 1)) for i in range(1, times + 1)}:
            self.refresh(module)

    def keep(self, module: ArmModule, folder: Path) -> None:
        if self.done:
            self._source(module).projection.save(folder / "projection")

    def take_up(self, module: ArmModule, folder: Path) -> None:
        from ecr_bench.ecr.projection import load_projection

        if (folder / "projection").is_dir():
            self.done = True
            self._source(module).projection = load_projection(folder / "projection")
            module.encode_again()

    @staticmethod
    def _source(module: ArmModule) -> ProjectionCodes:
        from ecr_bench.ecr.codes import ProjectionCodes

        source = module.conditioner.source
        assert isinstance(source, ProjectionCodes)
        return source

    def refresh(self, module: ArmModule) -> None:
        """Fit the projection on the model as it is and encode all rows with the codes it gives."""
        import torch

        from ecr_bench.ecr.projection import fit_projection

        source = self._source(module)
        # fitting must not move the random states that training draws from
        with torch.random.fork_rng():
            vocabulary = len(module.conditioner.tokenizer)
            source.projection = fit_projection(
                self.projection, self.token_ids, self.targets, vocabulary, module.model, self.seed
            )
        self.done = True
        module.encode_again()

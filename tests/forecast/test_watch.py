"""Operations of a real training step against formulas, and what is left behind."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ecr_bench.data.encode import Example
from ecr_bench.data.module import ExamplesDataModule, Mixture
from ecr_bench.forecast.watch import ADAMW, COUNTED, FILE, Watched, read_watched, watching
from ecr_bench.methods.base import CausalLMModule
from ecr_bench.methods.models import count_parameters
from ecr_bench.methods.optimisers import hidden_matrices
from ecr_bench.sections import FinetuneConfig
from ecr_bench.stages import fitting

LENGTH, BATCH = 12, 4


def trained(model, folder, optimiser: str, steps: int = COUNTED + 1) -> None:
    rows = [Example([1, *range(3, 2 + LENGTH)], 4, LENGTH) for _ in range(BATCH * steps)]
    settings = FinetuneConfig(steps=steps, batch_size=BATCH, optimiser=optimiser, text_share=0.0)
    data = ExamplesDataModule(Mixture(rows, [], 0.0), [], 0, BATCH, steps, 0)
    fitting.fit(CausalLMModule(model, settings), data, settings, 0, folder, lambda done, total: None)


def counted(model, folder, optimiser: str) -> int:
    folder.mkdir()
    with watching(folder):
        trained(model, folder, optimiser)
    found = read_watched(folder)
    assert found is not None and found.flops_per_step is not None and found.seconds_per_step > 0
    return found.flops_per_step


def newton_schulz(shape: torch.Size, rounds: int = 5) -> int:
    """Muon's iteration (Jordan et al. 2024): X X^T, its square and a product with X, in each round."""
    m, n = sorted(shape)
    return rounds * (2 * m * m * n + 2 * m**3 + 2 * m * m * n)


def test_a_step_costs_three_forwards_and_its_optimiser(model, tmp_path):
    parameters, matrices = count_parameters(model), hidden_matrices(model)
    ids = torch.ones(BATCH, LENGTH, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.model(input_ids=ids)
    body = counter.get_total_flops()
    head = 2 * BATCH * (LENGTH - 4) * model.config.hidden_size * model.config.vocab_size  # at labelled positions
    adamw = counted(model, tmp_path / "adamw", "adamw")
    assert adamw == pytest.approx(3 * (body + head) + ADAMW * parameters, rel=0.1)  # the last layer needs less
    muon = counted(model, tmp_path / "muon", "muon")
    hidden = sum(p.numel() for p in matrices)
    assert muon - adamw == sum(newton_schulz(p.shape) for p in matrices) - ADAMW * hidden


def test_watching_ends_and_leaves_training_as_it_is(model, tmp_path):
    """But for rounding: attention may take another way while its operations are counted."""
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    made = []
    for watched in (True, False):
        model.load_state_dict(weights)
        folder = tmp_path / str(watched)
        folder.mkdir()
        if watched:
            with watching(folder):
                trained(model, folder, "muon")
        else:
            trained(model, folder, "muon")
        made.append({name: value.clone() for name, value in model.state_dict().items()})
        assert (folder / FILE).is_file() == watched and not fitting.WATCHING
    for name in weights:
        torch.testing.assert_close(made[0][name], made[1][name], rtol=1e-3, atol=1e-4)


def test_a_short_look_sees_the_heaviest_batch_of_the_whole_training(model, tmp_path):
    rows = [Example([1, *range(3, 3 + length)], 1, length) for length in [4] * 400 + [60] * BATCH]
    whole, few = 101, 3
    data = ExamplesDataModule(Mixture(rows, [], 0.0), [], 0, BATCH, few, 0)
    heavy = max(ExamplesDataModule(Mixture(rows, [], 0.0), [], 0, BATCH, whole, 0).batches, key=lambda batch: sum(
        len(rows[row].ids) for row in batch
    ))  # fmt: skip
    assert heavy not in data.batches and max(len(rows[row].ids) for batch in data.batches for row in batch) < 60
    settings = FinetuneConfig(steps=few, batch_size=BATCH, optimiser="adamw", text_share=0.0)
    with watching(tmp_path, whole):
        fitting.fit(CausalLMModule(model, settings), data, settings, 0, tmp_path, lambda done, total: None)
    assert data.batches[0] == heavy and len(data.batches) == few


def test_work_that_trains_nothing_leaves_no_file(tmp_path):
    with watching(tmp_path):
        pass
    assert read_watched(tmp_path) is None and not list(tmp_path.iterdir())
    with pytest.raises(ZeroDivisionError), watching(tmp_path):
        _ = 1 / 0
    assert not fitting.WATCHING


def test_a_file_that_is_none_says_nothing(tmp_path):
    (tmp_path / FILE).write_text('{"seconds": 1}')
    assert read_watched(tmp_path) is None
    (tmp_path / FILE).write_text(Watched(seconds_per_step=1.0, flops_per_step=None).model_dump_json())
    assert read_watched(tmp_path) == Watched(seconds_per_step=1.0, flops_per_step=None)

"""A training or scoring that was ended anywhere goes on, and ends bit for bit as the one that was not."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ecr_bench.config import PretrainConfig
from ecr_bench.data.encode import Example
from ecr_bench.data.module import ExamplesDataModule, Mixture
from ecr_bench.errors import UserError
from ecr_bench.methods.base import CausalLMModule
from ecr_bench.methods.models import create_model
from ecr_bench.stages.checkpoints import SECONDS, latest, seconds
from ecr_bench.stages.fitting import Snapshots, fit
from tests.helpers.killed import KillAt, Killed
from tests.methods.test_refresh import make as make_refresh
from tests.methods.test_refresh import refreshed

STEPS = 13


def varied(index, row, generator):
    return dataclasses.replace(row, ids=row.ids[: 1 + row.loss_from + int(generator.random() * 3)])


def plain(size, tokenizer, sentences, optimiser="adamw"):
    """A model with dropout on rows that are drawn otherwise each time, and snapshots."""
    model = create_model(size, tokenizer, seed=0)
    model.config.attention_dropout = 0.3
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.3
    settings = PretrainConfig(steps=STEPS, batch_size=4, dropout="model", optimiser=optimiser, learning_rate=0.01)
    rows = [Example(ids, 2, len(ids)) for ids in tokenizer(sentences[:40])["input_ids"]]
    data = ExamplesDataModule(Mixture([], rows, 1.0), rows[:8], tokenizer.pad_token_id, 4, STEPS, 0, varied)
    module = CausalLMModule(model, settings)
    snapshots = Snapshots(lambda: model.get_input_embeddings().weight.detach().clone(), STEPS, 4)
    return module, data, settings, snapshots


def trained(folder, made, kept=None, *more):
    module, data, settings, snapshots = made
    folder.mkdir(parents=True, exist_ok=True)
    fitted = fit(module, data, settings, 0, folder, lambda *_: None, [snapshots, *more], kept=kept)
    snapshots.save(folder)
    return fitted, {name: value.clone() for name, value in module.state_dict().items()}


def curves(folder):
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


TIMED = {"train_seconds", "peak_memory"}


def same(one, other, here, there):
    fitted, weights = one
    fitted_there, weights_there = other
    assert fitted.model_dump(exclude=TIMED) == fitted_there.model_dump(exclude=TIMED)
    assert weights.keys() == weights_there.keys()
    assert all(torch.equal(value, weights_there[name]) for name, value in weights.items())
    for name in ("trace.safetensors", "snapshots.safetensors"):
        assert (here / name).read_bytes() == (there / name).read_bytes()
    assert curves(here) == curves(there)


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_killed_after_any_step(tmp_path, monkeypatch, size, tokenizer, sentences, optimiser):
    def made():
        return plain(size, tokenizer, sentences, optimiser)

    monkeypatch.setenv(SECONDS, "0")
    whole = trained(tmp_path / "whole", made())
    assert whole[0].val_loss is not None
    for step in range(1, STEPS + 1):
        kept, here = tmp_path / f"kept{step}", tmp_path / f"killed{step}"
        with pytest.raises(Killed):
            trained(here, made(), kept, KillAt(step))
        found = latest(kept)
        assert (found is None) == (step == 1)  # the killer comes before the checkpoint of its step
        shutil.rmtree(here)  # a kill takes what is half made along
        same(trained(here, made(), kept), whole, here, tmp_path / "whole")


@pytest.mark.slow
def test_killed_three_times_over(tmp_path, monkeypatch, size, tokenizer, sentences):
    monkeypatch.setenv(SECONDS, "0")
    kept, here = tmp_path / "kept", tmp_path / "here"
    for step in (3, 5, 11):
        with pytest.raises(Killed):
            trained(here, plain(size, tokenizer, sentences), kept, KillAt(step))
        assert len(list(kept.iterdir())) == 1
    resumed = trained(here, plain(size, tokenizer, sentences), kept)
    whole = trained(tmp_path / "whole", plain(size, tokenizer, sentences))
    assert resumed[0].train_seconds > 0
    same(resumed, whole, here, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["state.ckpt", "sha256"])
def test_a_damaged_checkpoint_is_no_checkpoint(tmp_path, monkeypatch, size, tokenizer, sentences, broken):
    monkeypatch.setenv(SECONDS, "0")
    kept, here = tmp_path / "kept", tmp_path / "here"
    with pytest.raises(Killed):
        trained(here, plain(size, tokenizer, sentences), kept, KillAt(6))
    path = latest(kept) / broken
    path.write_bytes(b"x" + path.read_bytes()[1:])
    (kept / ".checkpoint-9.part").mkdir()
    resumed = trained(here, plain(size, tokenizer, sentences), kept)
    same(resumed, trained(tmp_path / "whole", plain(size, tokenizer, sentences)), here, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 4, 7])
def test_codes_that_follow_the_model_are_taken_up(
    tmp_path, monkeypatch, size, tokenizer, sentences, anchors_and_projection, step
):
    from ecr_bench.ecr.targets import save_targets

    monkeypatch.setenv(SECONDS, "0")
    _, toy = anchors_and_projection
    ids = tokenizer(sentences, add_special_tokens=False)["input_ids"]
    save_targets(tmp_path / "targets.safetensors", ids, toy(ids))

    def ended(name, kept=None, *more):
        model = create_model(size, tokenizer, seed=0)
        made = make_refresh(refreshed(2), model, tokenizer, sentences, anchors_and_projection, tmp_path)
        module, data, conditioner, _, settings = made
        (tmp_path / name).mkdir(exist_ok=True)
        fit(module, data, settings, 0, tmp_path / name, lambda *_: None, more, kept=kept)
        conditioner.save(tmp_path / name / "conditioner")
        return module.state_dict(), conditioner

    weights, _ = ended("whole")
    with pytest.raises(Killed):
        ended("here", tmp_path / "kept", KillAt(step))
    resumed, _ = ended("here", tmp_path / "kept")
    assert all(torch.equal(value, resumed[name]) for name, value in weights.items())
    for path in (tmp_path / "whole" / "conditioner").rglob("*"):
        if path.is_file():
            other = tmp_path / "here" / path.relative_to(tmp_path / "whole")
            assert path.read_bytes() == other.read_bytes(), path.name


def test_what_is_frozen_is_not_in_a_checkpoint(tmp_path, monkeypatch, size, tokenizer, sentences):
    monkeypatch.setenv(SECONDS, "0")
    made = plain(size, tokenizer, sentences)
    for layer in made[0].model.model.layers:
        layer.requires_grad_(False)
    with pytest.raises(Killed):
        trained(tmp_path / "here", made, tmp_path / "kept", KillAt(3))
    state = torch.load(latest(tmp_path / "kept") / "state.ckpt", weights_only=True)["state_dict"]
    assert state and not any("layers" in name for name in state)


@pytest.mark.parametrize("value", ["soon", "-1", "nan"])
def test_the_pause_is_a_number(monkeypatch, value):
    monkeypatch.setenv(SECONDS, value)
    with pytest.raises(UserError, match=f"{SECONDS}={value}: must be a number of seconds, 0 or more"):
        seconds()


def test_a_part_that_hides_what_it_changes_has_its_arm_trained_from_the_start():
    from ecr_bench.methods.method import Modifier
    from ecr_bench.methods.refresh import Refresh

    class Sly(Modifier):
        """Counts."""

        def before_step(self, module, step):
            self.count = step

    class Open(Sly):
        """Says so."""

        def keep(self, module, folder):
            pass

    assert Sly("sly").changes_unsaid and not Open("open").changes_unsaid and not Refresh("refresh").changes_unsaid

"""One cell on two devices (processes of the CPU, gloo): as on one, within rounding."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time

import psutil
import pytest
from safetensors.torch import load_file

from ecr_bench.config import CorpusConfig, PretrainConfig
from ecr_bench.corpora.base import RawRow, from_rows
from ecr_bench.errors import UserError
from ecr_bench.methods.recipe import Recipe
from ecr_bench.sizes import Devices
from ecr_bench.stages.base_model import BaseInputs, BaseSettings, BaseStage
from ecr_bench.stages.ingredients import RecipeReads, RecipeSettings
from tests.helpers.many_devices import CASES, MAIN, SIZE, save_larger, train, words
from tests.helpers.outside import ROOT

DEVICES = 2


def on_two_processes(folder):
    """What all cases leave on two devices: in the same two processes, since starting them is dear."""
    save_larger(folder)
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(DEVICES)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*run, "-m", "tests.helpers.many_devices", str(folder)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-40_000:]  # why a process died stands far above what its end brought about


@pytest.mark.slow
def test_two_devices_train_as_one(tmp_path):
    """One test, so that the two processes are started once."""
    out, wrong = tmp_path / "two", []
    on_two_processes(out)
    for case in CASES:
        train(case, out, tmp_path / case.name, Devices())
        found = differences(out / case.name / "first", tmp_path / case.name)
        wrong += [f"{case.name}: {name}: {size}" for name, (size, most) in found.items() if not size <= most]
    assert not wrong, "\n".join(wrong)
    assert not [path for path in out.glob("*/other-*/**/*") if path.is_file()]  # only the first writes
    assert len(list(out.glob("*/other-*"))) >= len(MAIN)


def differences(here, there):
    """The largest of each kind, and what rounding may make of it; snapshots are kept in half precision."""
    found = {}
    for name, most in (("trace", 1e-4), ("model/model", 1e-4), ("snapshots", 2e-3)):
        one, other = (load_file(place / f"{name}.safetensors") for place in (here, there))
        assert one.keys() == other.keys()
        sizes = [
            float((one[key] - value).abs().max()) / max(1.0, float(value.abs().max())) for key, value in other.items()
        ]
        found[name] = (max(sizes), most)
    return found


@pytest.fixture
def base(tmp_path_factory):
    """The folders that the stage of a base model reads, and its settings."""
    folder = tmp_path_factory.mktemp("base")
    sentences, tokenizer = words()
    rows = [RawRow(text, "en", f"m{i}", "label", f"u{i}") for i, text in enumerate(sentences)]
    from_rows(rows, config=CorpusConfig(name="files"), source="here", licence="none").save(folder / "corpus")
    tokenizer.save_pretrained(folder / "tokenizer")
    reads = RecipeReads(recipe=RecipeSettings.of(Recipe.of("finetune")))
    settings = BaseSettings(size=SIZE, pretrain=PretrainConfig(steps=24, batch_size=8, optimiser="adamw"), reads=reads)
    return settings, BaseInputs(folder, folder)


def on_two(settings, **options):
    size = settings.size.model_copy(update={"devices": Devices(count=DEVICES, **options)})
    return settings.model_copy(update={"size": size})


@pytest.mark.slow
def test_a_stage_gives_its_work_to_two_processes(base, tmp_path):
    settings, inputs = base
    told = []
    made = {}
    for name, how in (("one", settings), ("two", on_two(settings))):
        (tmp_path / name).mkdir()
        made[name] = BaseStage.resume(how, inputs, tmp_path / name, lambda done, total: told.append(done))
    assert told == [10, 20, 10, 20]
    assert made["two"].parameters == made["one"].parameters
    one, two = made["one"].training, made["two"].training
    assert (two.steps, two.tokens, two.finite) == (one.steps, one.tokens, True)
    assert two.val_loss == pytest.approx(one.val_loss, abs=1e-4)
    found = {name: load_file(tmp_path / name / "model" / "model.safetensors") for name in made}
    assert all(float((value - found["two"][key]).abs().max()) <= 1e-4 for key, value in found["one"].items())
    files = {name: {str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*")} for name in made}
    assert {name for name in files["one"] if "tfevents" not in name} <= files["two"]


@pytest.mark.slow
def test_what_a_process_is_refused_is_one_line(base, tmp_path):
    settings, inputs = base
    nowhere = dataclasses.replace(inputs, corpus=tmp_path)
    with pytest.raises(UserError, match=r"card\.json"):
        BaseStage.resume(on_two(settings), nowhere, tmp_path, lambda *_: None)


@pytest.mark.slow
def test_the_processes_end_with_the_one_that_started_them(tmp_path):
    run = "from tests.helpers.sleepers import start; import sys; start(sys.argv[1])"
    parent = subprocess.Popen([sys.executable, "-c", run, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(ROOT)})
    pids = wait_for(lambda: [int(path.name) for path in tmp_path.glob("[0-9]*")], DEVICES)
    assert all(psutil.pid_exists(pid) for pid in pids)
    parent.kill()
    parent.wait()
    assert wait_for(lambda: [pid for pid in pids if not alive(pid)], DEVICES)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(look, count):
    deadline = time.monotonic() + 120
    while len(found := look()) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found

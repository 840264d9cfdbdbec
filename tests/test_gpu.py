"""What must hold on a GPU. ``benchmarks/gpu_check.sh --dry-run`` runs the same lines on the CPU."""

from __future__ import annotations

import os

import pytest
import torch

from ecr_bench.config import ProjectionConfig
from ecr_bench.data.encode import encode_items
from ecr_bench.data.module import ExamplesDataModule, Mixture
from ecr_bench.data.tokenizer import own_tokenizer
from ecr_bench.ecr.conditioner import Conditioner
from ecr_bench.ecr.projection import fit_projection, load_projection
from ecr_bench.fast.scorer import Request, loglikelihoods
from ecr_bench.methods.models import fit_to_machine
from ecr_bench.methods.module import CausalLMModule
from ecr_bench.methods.pretrained import load_pretrained
from ecr_bench.precision import PRECISIONS, describe
from ecr_bench.sizes import Fitting, PretrainedSize
from ecr_bench.stages.fitting import fit
from tests.helpers.items import some_items

pytestmark = pytest.mark.gpu


@pytest.fixture
def gpu():
    """The device under test: CUDA, or what the dry run names."""
    device = os.environ.get("ECR_BENCH_GPU_DEVICE", "cuda")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    return device


def opened(folder):
    size = PretrainedSize(model=str(folder), max_length=128)
    tokenizer = own_tokenizer(size.model, size.max_length)
    return load_pretrained(size, tokenizer, torch.float32), tokenizer


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma3"])
def test_scores_on_the_gpu_are_those_of_the_cpu(gpu, tiny_folders, kind):
    model, tokenizer = opened(tiny_folders[kind])
    context = tuple(tokenizer("alarmde3 lampfr1 roomit2")["input_ids"])
    requests = [Request(context, (7 + i, 9, 11 + i)) for i in range(5)]
    scores = []
    for device in ("cpu", gpu):
        model = torch.nn.Module.to(model, device)
        scores.append([s for s, _ in loglikelihoods(model, requests, pad_id=0, max_length=64)])
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)


@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_quantised_models_load_save_and_come_back_the_same(gpu, tiny_folders, precision, tmp_path):
    from ecr_bench.precision.quantised import load_quantised

    model, tokenizer = opened(tiny_folders["llama 3x"])
    model.save_pretrained(tmp_path / "dense")
    quantised = PRECISIONS.get(precision)(tmp_path / "dense", gpu)
    assert quantised.device.type == gpu and describe(quantised)["packed"] > 0
    quantised.save_pretrained(tmp_path / "quantised")
    again = load_quantised(tmp_path / "quantised", gpu)
    ids = torch.tensor([tokenizer("alarmde3 lampfr1")["input_ids"]], device=gpu)
    with torch.no_grad():
        assert torch.equal(quantised(ids).logits, again(ids).logits)


def test_training_in_bf16_with_accumulation_and_checkpointing_lowers_the_loss(gpu, tiny_folders, tmp_path):
    model, tokenizer = opened(tiny_folders["gemma3"])
    fitting = Fitting(dtype="bf16", accumulate=2, checkpointing=True)
    fit_to_machine(model, fitting)
    from ecr_bench.config import FinetuneConfig

    settings = FinetuneConfig(steps=12, batch_size=4, learning_rate=0.01, optimiser="adamw")
    rows = encode_items(Conditioner(tokenizer), some_items(6), 64)
    data = ExamplesDataModule(Mixture(rows, [], 0.0), rows, tokenizer.pad_token_id, 4, 12, 0)
    stats = fit(
        CausalLMModule(model, settings), data, settings, 0, tmp_path, lambda done, total: None, dtype=fitting.dtype
    )
    assert stats.finite and stats.val_loss < 4.0 < torch.log(torch.tensor(float(len(tokenizer))))


def test_teacher_on_the_cpu_and_projection_on_the_gpu_meet(gpu, tiny_folders, tmp_path):
    """A ``hidden`` projection reads the student's states where they are and gives vectors on the CPU."""
    model, tokenizer = opened(tiny_folders["llama"])
    model = torch.nn.Module.to(model, gpu)
    ids = tokenizer([f"alarmde{i} lampfr{i}" for i in range(9)], add_special_tokens=False)["input_ids"]
    targets = torch.nn.functional.normalize(torch.randn(9, 12, generator=torch.Generator().manual_seed(0)), dim=-1)
    projection = fit_projection(
        ProjectionConfig(kind="hidden", options={"layer": 1}), ids, targets, len(tokenizer), model, 0
    )
    assert projection(ids).device.type == "cpu" and torch.isfinite(projection(ids)).all()
    projection.save(tmp_path / "p")
    torch.testing.assert_close(load_projection(tmp_path / "p")(ids), projection(ids), atol=1e-4, rtol=1e-4)

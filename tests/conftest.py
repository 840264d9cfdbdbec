"""Small real things the tests share: a tokenizer, a model, anchors and a projection, all made here."""

from __future__ import annotations

import os

os.environ["GOMP_SPINCOUNT"] = "0"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import random
import signal

import pytest
import torch
from hypothesis import settings

from ecr_bench.config import AnchorsConfig, ProjectionConfig, SizeConfig, TokenizerConfig
from ecr_bench.data.tokenizer import train_tokenizer
from ecr_bench.methods.models import create_model

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job hands that on to what tests start
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("untimed", deadline=None)  # a machine that does other work is slow, not wrong
settings.load_profile("untimed")

WORDS = ["lamp", "kitchen", "door", "red", "blue", "open", "close", "warm", "cold", "seven", "nine", "garden"]
WORDS += ["turn", "on", "off", "please", "now", "küche", "свет", "电灯"]


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=rng.randint(3, 8))) for _ in range(300)]


@pytest.fixture(scope="session")
def tokenizer(sentences):
    return train_tokenizer(sentences, TokenizerConfig(vocab_size=400))


@pytest.fixture(scope="session")
def size():
    return SizeConfig(hidden_size=32, layers=2, heads=2, intermediate_size=64, max_length=64)


@pytest.fixture
def model(size, tokenizer):
    return create_model(size, tokenizer, seed=0)


@pytest.fixture(scope="session")
def anchors_and_projection(tokenizer, sentences):
    """Anchors of a toy teacher (a random bag-of-words embedding) and the projection onto it."""
    from ecr_bench.ecr.anchors import fit_anchors
    from ecr_bench.ecr.projection import fit_projection

    generator = torch.Generator().manual_seed(0)
    table = {word: torch.randn(16, generator=generator) for word in WORDS}
    vectors = torch.stack([torch.stack([table[w] for w in s.split()]).mean(0) for s in sentences])
    vectors = torch.nn.functional.normalize(vectors, dim=-1)
    languages = ["en"] * len(sentences)
    anchors = fit_anchors(vectors, languages, AnchorsConfig(k=8), 1, "toy")
    ids = tokenizer(sentences, add_special_tokens=False)["input_ids"]
    config = ProjectionConfig(kind="token-table", options={"rank": 8})
    projection = fit_projection(config, ids, anchors.centre(vectors, languages), len(tokenizer), None, 0)
    return anchors, projection


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory):
    """Folders of tiny models as their authors would save them, an encoder and a data set, by name."""
    from tests.helpers.tiny_models import save_all

    return save_all(tmp_path_factory.mktemp("pretrained"))

"""Arms that train a part of the model, or nothing of it, and adapters drawn from the seed alone."""

from __future__ import annotations

import pytest
import torch

from ecr_bench.config import ControlTokensConfig, FinetuneConfig
from ecr_bench.data.encode import encode_items
from ecr_bench.data.module import collate
from ecr_bench.errors import UserError
from ecr_bench.methods.method import Ingredients, Training
from ecr_bench.methods.models import create_model
from ecr_bench.methods.optimisers import create_optimiser
from ecr_bench.methods.recipe import Recipe
from tests.helpers.items import items_of_texts


class EmbeddingsOnly(torch.nn.Module):
    """What a method leaves to train that freezes all but the token rows."""

    def __init__(self, model):
        super().__init__()
        self.model = model.requires_grad_(False)
        model.get_input_embeddings().weight.requires_grad_(True)


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_a_base_with_all_linear_layers_frozen_trains_the_rest(optimiser, size, tokenizer, sentences):
    frozen = EmbeddingsOnly(create_model(size, tokenizer, 0))
    before = {name: p.clone() for name, p in frozen.named_parameters()}
    made = create_optimiser(frozen, FinetuneConfig(optimiser=optimiser, learning_rate=0.1))
    torch.optim.lr_scheduler.LambdaLR(made, lambda step: 0.5)
    frozen.model(torch.tensor([tokenizer(sentences[0])["input_ids"]])).logits.square().mean().backward()
    made.step()
    made.load_state_dict(made.state_dict())
    moved = {name for name, p in frozen.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"model.model.embed_tokens.weight"}


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_an_arm_that_trains_nothing_is_one_line(optimiser, size, tokenizer):
    with pytest.raises(UserError, match="nothing to train: every parameter of this arm is frozen"):
        create_optimiser(create_model(size, tokenizer, 0).requires_grad_(False), FinetuneConfig(optimiser=optimiser))


def first_loss_and_factors(tokenizer, size, sentences, seed: int) -> tuple[float, torch.Tensor]:
    recipe, model = Recipe.of("finetune", ["lora"]), create_model(size, tokenizer, 0)
    given = Ingredients(tokenizer, ControlTokensConfig(count=0), ("en",), 8, 1, 32)
    conditioner, items = recipe.conditioner(given), items_of_texts(sentences)
    module = recipe.module(model, FinetuneConfig())
    module.prepare(Training(given, conditioner, items, [], 64, seed, {}, {}))
    batch = collate(encode_items(conditioner, items, 64), tokenizer.pad_token_id)
    factors = [p.flatten() for name, p in module.named_parameters() if "lora_A" in name]
    return module.cross_entropy(batch).item(), torch.cat(factors)


def test_adapters_are_drawn_from_the_seed_whatever_was_drawn_before(tokenizer, size, sentences):
    torch.manual_seed(1)
    _, first = first_loss_and_factors(tokenizer, size, sentences, 0)
    torch.rand(7)
    state = torch.random.get_rng_state()
    _, again = first_loss_and_factors(tokenizer, size, sentences, 0)
    assert torch.equal(first, again) and torch.equal(state, torch.random.get_rng_state())
    assert not torch.equal(first, first_loss_and_factors(tokenizer, size, sentences, 1)[1])

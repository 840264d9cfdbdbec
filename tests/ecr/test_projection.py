from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity
from transformers import LlamaConfig, LlamaForCausalLM

from ecr_bench.config import AnchorsConfig, ProjectionConfig
from ecr_bench.ecr.anchors import fit_anchors
from ecr_bench.ecr.projection import Projection, fit_projection, load_projection
from ecr_bench.ecr.quality import measure
from ecr_bench.errors import UserError

VOCAB, DIM = 120, 12
KINDS = ["token-table", "hidden", "mlp"]
CONFIGS = {
    "token-table": ProjectionConfig(options={"rank": DIM, "ridge": 0.01}),
    "hidden": ProjectionConfig(kind="hidden", options={"layer": 1}),
    "mlp": ProjectionConfig(kind="mlp", options={"layer": -1, "width": 64}),
}


@pytest.fixture(scope="module")
def encoder() -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=VOCAB, max_position_embeddings=64, bos_token_id=1, initializer_range=0.2, **shape)
    return LlamaForCausalLM(config).eval()


def rows(count: int, seed: int) -> tuple[list[list[int]], torch.Tensor]:
    """Texts of 3 to 8 tokens and the mean of their tokens' meanings."""
    meanings = torch.randn(VOCAB, DIM, generator=torch.Generator().manual_seed(7))
    generator = np.random.default_rng(seed)
    texts = [generator.integers(3, VOCAB, generator.integers(3, 9)).tolist() for _ in range(count)]
    return texts, torch.stack([meanings[text].mean(0) for text in texts])


@pytest.fixture(scope="module")
def fitted(encoder) -> dict[str, Projection]:
    texts, targets = rows(1500, 0)
    return {kind: fit_projection(config, texts, targets, VOCAB, encoder, 0) for kind, config in CONFIGS.items()}


@pytest.mark.parametrize(("kind", "floor"), [("token-table", 0.97), ("hidden", 0.3), ("mlp", 0.25)])
def test_learns_what_is_there_on_held_out_rows(fitted, kind, floor) -> None:
    texts, targets = rows(300, 1)
    found = fitted[kind](texts)
    assert found.shape == (300, DIM) and found.dtype == torch.float32
    cosine = cosine_similarity(found, targets).mean()
    shuffled = targets[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    # texts of other rows share the mean direction, so the floor alone would not show that rows match
    assert cosine > floor and cosine > cosine_similarity(found, shuffled).mean() + 0.15
    assert found.norm(dim=1).mean() == pytest.approx(float(targets.norm(dim=1).mean()), rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_does_not_depend_on_the_batch(fitted, kind) -> None:
    texts, _ = rows(40, 2)
    alone = torch.cat([fitted[kind]([text]) for text in texts])
    torch.testing.assert_close(fitted[kind](texts), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_ids_are_skipped_and_nothing_known_gives_zeros(fitted, kind) -> None:
    found = fitted[kind]([[5, 9], [5, VOCAB, 9, 10**9, -1], [], [VOCAB + 3]])
    torch.testing.assert_close(found[0], found[1])
    assert found[0].any() and not found[2:].any()
    assert fitted[kind]([[], []]).tolist() == [[0.0] * DIM] * 2
    assert fitted[kind]([]).shape == (0, DIM)


@pytest.mark.parametrize("kind", KINDS)
def test_save_load_gives_the_same_vectors_and_size(fitted, kind, tmp_path) -> None:
    texts, _ = rows(20, 3)
    fitted[kind].save(tmp_path / "p")
    loaded = load_projection(tmp_path / "p")
    torch.testing.assert_close(loaded(texts), fitted[kind](texts), atol=1e-6, rtol=0)
    assert (loaded.dim, loaded.parameters, loaded.bytes) == (DIM, fitted[kind].parameters, fitted[kind].bytes)
    on_disk = sum(path.stat().st_size for path in (tmp_path / "p").rglob("*.safetensors"))
    assert loaded.bytes <= on_disk < loaded.bytes + 8192


def test_same_seed_same_projection(encoder) -> None:
    texts, targets = rows(200, 0)
    for config in CONFIGS.values():
        one, two = (fit_projection(config, texts, targets, VOCAB, encoder, 3) for _ in range(2))
        assert torch.equal(one(texts), two(texts))


def test_hidden_keeps_only_its_layers_and_leaves_the_encoder(encoder, fitted) -> None:
    assert len(encoder.model.layers) == 3 and encoder.config.num_hidden_layers == 3
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    layer = sum(parameter.numel() for parameter in encoder.model.layers[0].parameters())
    saved = fitted["mlp"].parameters - fitted["hidden"].parameters
    assert saved > 2 * layer


def test_hidden_is_the_affine_map_of_the_layer_transformers_shows(encoder, fitted) -> None:
    texts, targets = rows(1500, 0)
    with torch.no_grad():
        pooled = torch.stack(
            [encoder(torch.tensor([[1, *t]]), output_hidden_states=True).hidden_states[1][0, 1:].mean(0) for t in texts]
        )
    x = torch.cat([pooled, torch.ones(len(pooled), 1)], dim=1).double()
    weights = torch.linalg.lstsq(x, targets.double()).solution
    assert cosine_similarity((x @ weights).float(), fitted["hidden"](texts)).mean() > 0.999


def test_table_equals_ridge_in_closed_form_both_ways() -> None:
    for count in (400, 60):  # more rows than tokens, and fewer
        texts, targets = rows(count, 5)
        found = fit_projection(ProjectionConfig(options={"rank": DIM, "ridge": 0.5}), texts, targets, VOCAB, None, 0)(
            texts
        )
        counts = torch.zeros(count, VOCAB, dtype=torch.float64)
        for row, text in enumerate(texts):
            counts[row].index_add_(0, torch.tensor(text), torch.ones(len(text), dtype=torch.float64))
        frequency = (counts > 0).sum(0)
        idf = torch.where(frequency > 0, ((1 + count) / (1 + frequency)).log() + 1, 0.0)
        x = counts * idf
        x /= x.sum(1, keepdim=True).sqrt()
        weights = torch.linalg.solve(x.T @ x + 0.5 * torch.eye(VOCAB), x.T @ targets.double())
        assert cosine_similarity((x @ weights).float(), found).min() > 0.9999


def test_rank_trades_size_for_quality() -> None:
    texts, targets = rows(1000, 0)
    held_out, wanted = rows(200, 1)
    made = [
        fit_projection(ProjectionConfig(options={"rank": r}), texts, targets, VOCAB, None, 0) for r in (2, 6, 12, 99)
    ]
    cosines = [float(cosine_similarity(one(held_out), wanted).mean()) for one in made]
    assert cosines[0] < cosines[1] < cosines[2] and cosines[3] == pytest.approx(cosines[2], abs=1e-6)
    assert [one.parameters for one in made[:2]] == [VOCAB + r * (VOCAB + DIM) for r in (2, 6)]
    assert made[0].bytes == 2 * made[0].parameters


def test_quality_of_a_perfect_and_of_a_blind_projection(fitted) -> None:
    texts, targets = rows(400, 1)
    langs = ["en", "de"] * 200
    anchors = fit_anchors(targets, langs, AnchorsConfig(k=16, centre=False), 1, "t")
    labels = [str(code) for code in anchors.assign(targets, 1)[:, 0].tolist()]

    class Fixed:
        dim, parameters, bytes = DIM, 0, 0

        def __init__(self, vectors: torch.Tensor):
            self.vectors = vectors

        def __call__(self, token_ids: object) -> torch.Tensor:
            return self.vectors

    perfect = measure(Fixed(targets), anchors, texts, targets, labels, langs, 4)
    assert (perfect.agreement, perfect.top1, perfect.rows) == (1.0, 1.0, 400)
    assert perfect.ami_label == perfect.teacher_ami_label == pytest.approx(1.0)
    blind = measure(Fixed(targets.roll(1, 0)), anchors, texts, targets, labels, langs, 4)
    assert blind.agreement < 0.4 and abs(blind.ami_label) < 0.1 and blind.teacher_ami_label == pytest.approx(1.0)
    real = measure(fitted["token-table"], anchors, texts, targets, labels, langs, 4)
    assert real.agreement > 0.8 and "code agreement" in real.summary()


def test_bad_input_is_a_user_error(encoder, tmp_path) -> None:
    texts, targets = rows(20, 0)
    with pytest.raises(UserError, match="needs a base model"):
        fit_projection(CONFIGS["hidden"], texts, targets, VOCAB, None, 0)
    with pytest.raises(UserError, match="layer 9 does not exist"):
        fit_projection(ProjectionConfig(kind="hidden", options={"layer": 9}), texts, targets, VOCAB, encoder, 0)
    with pytest.raises(UserError, match="not finite"):
        fit_projection(CONFIGS["token-table"], texts, targets / 0.0, VOCAB, None, 0)
    with pytest.raises(UserError, match="no such file"):
        load_projection(tmp_path)
    (tmp_path / "projection.json").write_text('{"kind": "magic"}')
    with pytest.raises(UserError, match="'kind' must be one of token-table, hidden, mlp"):
        load_projection(tmp_path)
    (tmp_path / "projection.json").write_text('{"kind": "token-table", "norm": 1.0}')
    (tmp_path / "projection.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match="not a token table"):
        load_projection(tmp_path)

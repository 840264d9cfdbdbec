"""Go on training a bundle's model on sentences of one's own.  python examples/train_with_lightning.py BUNDLE"""

import sys
from pathlib import Path

import lightning as L

import ecr_bench as eb
from ecr_bench.config import OptimiserConfig
from ecr_bench.data.cutting import whole_texts
from ecr_bench.data.encode import encode_texts
from ecr_bench.data.module import ExamplesDataModule, Mixture
from ecr_bench.methods.recipe import Recipe

bundle, steps = eb.open_bundle(Path(sys.argv[1])), 20
texts = [
    (f"{verb} the {thing}", "en") for verb in ("open", "close", "find") for thing in ("door", "window", "box", "book")
]
rows = encode_texts(bundle.lm.conditioner, whole_texts(texts), bundle.window)  # BOS, control tokens, text, EOS
data = ExamplesDataModule(Mixture([], rows, 1.0), rows[:4], bundle.tokenizer.pad_token_id, 4, steps, seed=0)
module = Recipe.of("ecr").module(bundle.model, OptimiserConfig(steps=steps, learning_rate=1e-3))
trainer = L.Trainer(
    max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, num_sanity_val_steps=0
)
trainer.fit(module, datamodule=data)
print(trainer.callback_metrics["val/loss"])

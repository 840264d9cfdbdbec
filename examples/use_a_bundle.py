"""Generate with a bundle: batches, a stream, a transformers pipeline.  python examples/use_a_bundle.py BUNDLE"""

import sys
from pathlib import Path

from transformers import pipeline

import ecr_bench as eb

bundle = eb.open_bundle(Path(sys.argv[1]))
texts = ["turn on the", "mach das Licht"]
print(bundle.generate(texts, tokens=8))

for piece in bundle.stream(texts[0], tokens=8):
    print(piece, end="", flush=True)
print()

# its tokenizer puts the control tokens of each prompt in front, wherever transformers calls a tokenizer
pipe = pipeline("text-generation", model=bundle.model, tokenizer=bundle.tokenizer)
print(pipe(texts[0], max_new_tokens=8, do_sample=False)[0]["generated_text"])

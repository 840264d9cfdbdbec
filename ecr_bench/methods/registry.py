"""All methods, one line each."""

from __future__ import annotations

from ecr_bench.registry import Registry

METHODS = Registry(
    "method",
    {
        "finetune": "ecr_bench.methods.finetune:Finetune",
        "ecr": "ecr_bench.methods.ecr:Ecr",
        "random": "ecr_bench.methods.controls:Random",
        "constant": "ecr_bench.methods.controls:Constant",
        "language": "ecr_bench.methods.controls:Language",
        "shuffled": "ecr_bench.methods.controls:Shuffled",
        "oracle": "ecr_bench.methods.controls:Oracle",
        "codes-only": "ecr_bench.methods.controls:CodesOnly",
    },
)

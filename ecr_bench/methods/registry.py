"""All methods and modifiers, one line each."""

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
        "teacher-probe": "ecr_bench.methods.controls:TeacherProbe",
        "soft-cue": "ecr_bench.methods.soft_cue:SoftCue",
        "relational": "ecr_bench.methods.relational:Relational",
    },
)

MODIFIERS = Registry(
    "modifier",
    {
        "dropout": "ecr_bench.methods.dropout:Dropout",
        "refresh": "ecr_bench.methods.refresh:Refresh",
        "distill": "ecr_bench.methods.distill:Distill",
        "lora": "ecr_bench.methods.lora:Lora",
    },
)
"""In the order in which they are applied: what changes rows, then the loss, then the weights."""

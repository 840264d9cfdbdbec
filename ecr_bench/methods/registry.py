"""All methods, one line each."""

from __future__ import annotations

from ecr_bench.arm import Role
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
        "teacher-probe": "ecr_bench.methods.probe:TeacherProbe",
        "soft-cue": "ecr_bench.methods.soft_cue:SoftCue",
        "distill": "ecr_bench.methods.distill:Distill",
        "ecr+distill": "ecr_bench.methods.distill:EcrDistill",
        "relational": "ecr_bench.methods.relational:Relational",
        "ecr+refresh": "ecr_bench.methods.refresh:EcrRefresh",
        "ecr+dropout": "ecr_bench.methods.dropout:EcrDropout",
        "finetune+lora": "ecr_bench.methods.lora_dense:FinetuneLora",
        "ecr+lora": "ecr_bench.methods.lora_dense:EcrLora",
        "finetune+lora-int8": "ecr_bench.methods.lora:FinetuneLoraInt8",
        "finetune+lora-nf4": "ecr_bench.methods.lora:FinetuneLoraNf4",
        "ecr+lora-int8": "ecr_bench.methods.lora:EcrLoraInt8",
        "ecr+lora-nf4": "ecr_bench.methods.lora:EcrLoraNf4",
    },
)


def role_of(method: str) -> Role:
    """The role that the class of ``method`` states for itself."""
    return Role(vars(METHODS.get(method)).get("role", Role.CONTENDER))

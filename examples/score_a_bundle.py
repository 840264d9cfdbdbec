"""Score a bundle with lm-eval itself.  python examples/score_a_bundle.py BUNDLE ITEMS TASK"""

import sys

from lm_eval import simple_evaluate

import ecr_bench  # noqa: F401  registers the model class ecr-hf, which adds control tokens
from ecr_bench.evaluation.run import load_item_tasks

folder, items, task = sys.argv[1:]
manager, tasks = load_item_tasks(items, [task])
found = simple_evaluate(
    model="ecr-hf", model_args={"pretrained": folder}, tasks=tasks, task_manager=manager, device="cpu"
)
print(found["results"][task])

"""The model card of a bundle: what it is, how it scored, how to use it."""

from __future__ import annotations

import re
import shlex

from ecr_bench.bundle.files import Meta
from ecr_bench.bundle.licence import identifier, sentence
from ecr_bench.formats import percent, with_side
from ecr_bench.report.export import model_index
from ecr_bench.results.cells import CellCosts
from ecr_bench.run import Run
from ecr_bench.table import Table, code, escape_markdown, to_markdown

PROMPT = "Where is my phone?"
COMMON = re.compile(r"[\w.-]+/[\w.-]+")
"""A name on the hub, as its model cards may hold it; a folder is none."""


def model_card(run: Run, meta: Meta, cost: CellCosts, items: str) -> str:
    """Front matter with the accuracies of the cell, then Markdown with the board's rows of its arm and precision (means
    over its seeds, not this seed alone).

    ``items``: path of the test items, seen from the bundle. Every command in it runs as it stands there, in the folder
    of the bundle.
    """
    board = run.board
    hub = meta.base_model if meta.base_model and COMMON.fullmatch(meta.base_model) else None
    rows = [r for r in board.rows if (str(r.arm), r.precision) == (meta.arm, meta.precision)]
    table = Table(
        "Accuracy of this arm in %",
        ("languages", "task", "accuracy", "95 % interval", "chance", "items", "seeds"),
        (tuple(
            (r.group, r.task, percent(r.mean), f"{percent(r.ci[0])} to {percent(r.ci[1])}", percent(r.chance),
             str(r.n_items), str(r.n_seeds))
            for r in rows
        ),),
        f"unseen: languages without labelled training rows; seen: {', '.join(meta.seen_languages)}",
        words=2,
    )  # fmt: skip
    sizes = with_side(cost.parameters, cost.side_parameters)
    return f"""{model_index(run, meta.cell, meta.precision, hub, identifier(meta.base_model))}
# {escape_markdown(meta.cell)}, {meta.precision}

Arm {code(meta.arm)} of the ecr-bench run {code(meta.run)} (seed {meta.seed}).
{sentence(meta.base_model)}{sizes} parameters
(model, and projection with anchors after the plus); {cost.extra_tokens} control tokens a prompt. No teacher is needed.

{to_markdown(table)}

## Use

In this folder, with ecr-bench installed:

```
ecr-bench generate . "{PROMPT}" --tokens 20
```

```python
from ecr_bench import open_bundle

bundle = open_bundle(".")
print(bundle.generate(["{PROMPT}"], tokens=20))
```

Beside the run it comes from, whose sentences are not published:

```
ecr-bench score . all --items {shlex.quote(items)}
```

`AutoModelForCausalLM.from_pretrained(".")` loads the model alone: without its conditioner (`conditioner/`) it sees no
control tokens, so it is not what was scored.
"""

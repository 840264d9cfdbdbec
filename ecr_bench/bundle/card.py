"""The model card of a bundle: what it is, how it scored, how to use it."""

from __future__ import annotations

from ecr_bench.bundle.files import Meta
from ecr_bench.formats import percent, with_side
from ecr_bench.results.cells import CellCosts
from ecr_bench.results.schema import Board
from ecr_bench.table import Table, code, escape_markdown, to_markdown


def model_card(board: Board, meta: Meta, cost: CellCosts) -> str:
    """Markdown with the board's rows of this arm and precision (means over its seeds, not this seed alone)."""
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
    )  # fmt: skip
    origin = f"Fine-tuned from {code(meta.base_model)}; its licence applies. " if meta.base_model else ""
    sizes = with_side(cost.parameters, cost.side_parameters)
    return f"""# {escape_markdown(meta.cell)}, {meta.precision}

Arm {code(meta.arm)} of the ecr-bench run {code(meta.run)} (seed {meta.seed}).
{origin}{sizes} parameters (model, and projection with anchors after the plus); {cost.extra_tokens} control tokens
a prompt. No teacher is needed.

{to_markdown(table)}

## Use

```
ecr-bench generate DIR "text"
ecr-bench score DIR all --items runs/store/items/KEY/test
python -m ecr_bench.harness run --model ecr-hf --model_args pretrained=DIR --tasks ecr_label --include_path tasks
```

`AutoModelForCausalLM.from_pretrained(DIR)` loads the model alone: without its conditioner (`conditioner/`) it sees no
control tokens, so it is not what was scored.
"""

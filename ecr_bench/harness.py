"""lm-eval's own command line with our model class: ``python -m ecr_bench.harness run --model ecr-hf ...``.

lm-eval finds no models outside its own package; importing ours first registers ``ecr-hf``.
"""

from __future__ import annotations

from lm_eval.__main__ import cli_evaluate

import ecr_bench  # noqa: F401

if __name__ == "__main__":
    cli_evaluate()

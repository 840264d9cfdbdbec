"""Which method plays which part in a comparison, and what a control that is not beaten means."""

from __future__ import annotations

from collections.abc import Mapping

MAIN = "ecr"
PLAIN = "finetune"
ANCHOR_CONTROLS = ("random", "constant", "language", "shuffled")
"""If one does as well as ECR, the gain is not attributable to anchors."""
MODEL_CONTROLS = ("codes-only", "teacher-probe")
"""They read no text through the language model: if one does as well, the gain is not attributable to it."""
CONTROLS = (*ANCHOR_CONTROLS, *MODEL_CONTROLS)
REQUIRED_CONTROLS = (*ANCHOR_CONTROLS, "codes-only")
"""Without these attribution is untested; the probe exists for some corpora only."""
UPPER_BOUNDS = ("oracle",)
"""Not deployable: they need the teacher at test time."""


def attribute(lower_ends: Mapping[str, float]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Sort controls by what they show.

    ``lower_ends``: control -> lower end of the 95 % interval of (ECR minus control), in the direction in which more
    is better. Returns anchor controls and model controls that ECR is not shown to beat, and controls it beats.
    """
    as_good = {name for name, low in lower_ends.items() if low <= 0}
    return (
        tuple(name for name in ANCHOR_CONTROLS if name in as_good),
        tuple(name for name in MODEL_CONTROLS if name in as_good),
        tuple(name for name in CONTROLS if name in lower_ends and name not in as_good),
    )

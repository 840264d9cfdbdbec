"""How well a projection stands in for the teacher, on texts neither was fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sklearn.metrics import adjusted_mutual_info_score
from torch.nn.functional import cosine_similarity

from ecr_bench.ecr.anchors import Anchors
from ecr_bench.ecr.projection import Projection


@dataclass(frozen=True)
class Quality:
    """Held-out quality of codes; all numbers are means over ``rows`` texts, plain floats."""

    rows: int
    cosine: float
    """Cosine of projection and centred teacher vector."""
    agreement: float
    """Share of the teacher's m codes that are among the projection's m (residual: at the same level)."""
    top1: float
    """Share of texts with the same first code."""
    ami_label: float
    """Adjusted mutual information (Vinh et al. 2010) of the projection's first code with the label."""
    ami_lang: float
    """The same with the language: what anchors should not tell."""
    teacher_ami_label: float
    teacher_ami_lang: float

    def summary(self) -> str:
        """One line for the terminal."""
        return (
            f"cosine {self.cosine:.3f}, code agreement {self.agreement:.1%} (first code {self.top1:.1%}), "
            f"AMI with label {self.ami_label:.3f} (teacher {self.teacher_ami_label:.3f}), "
            f"with language {self.ami_lang:.3f} (teacher {self.teacher_ami_lang:.3f}), {self.rows} held-out texts"
        )


def measure(
    projection: Projection,
    anchors: Anchors,
    token_ids: Sequence[Sequence[int]],
    targets: torch.Tensor,
    labels: Sequence[str],
    langs: Sequence[str],
    count: int,
) -> Quality:
    """Compare projected and teacher codes on N held-out rows.

    Args:
        projection: fitted on other rows.
        anchors: likewise.
        token_ids: N lists of the student's token ids.
        targets: (N, d) float32, centred teacher embeddings.
        labels: N labels.
        langs: N languages.
        count: codes per text, m; 0 is measured as 1.
    """
    count = max(count, 1)
    vectors = projection(token_ids)
    found, wanted = anchors.assign(vectors, count), anchors.assign(targets, count)
    if anchors.config.assignment == "residual":
        hits = found == wanted
    else:
        hits = (wanted[:, :, None] == found[:, None, :]).any(2)
    first, teacher_first = found[:, 0].tolist(), wanted[:, 0].tolist()
    return Quality(
        rows=len(targets),
        cosine=float(cosine_similarity(vectors, targets.float()).mean()),
        agreement=float(hits.float().mean()),
        top1=float((found[:, 0] == wanted[:, 0]).float().mean()),
        ami_label=float(adjusted_mutual_info_score(labels, first)),
        ami_lang=float(adjusted_mutual_info_score(langs, first)),
        teacher_ami_label=float(adjusted_mutual_info_score(labels, teacher_first)),
        teacher_ami_lang=float(adjusted_mutual_info_score(langs, teacher_first)),
    )

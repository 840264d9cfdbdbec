"""All measures beside accuracy, one line each. A ``Measure`` (types.py) bears one of these names."""

from __future__ import annotations

from ecr_bench.registry import Registry

METRICS = Registry("metric")
ASPECTS: dict[str, str] = {}
"""Metric -> what it is about: drift, manifold, cross-lingual, semantic similarity, stability."""
PLAIN = "_plain"
"""Ends the name of a measure taken of the same texts without control tokens."""


def _add(aspect: str, entries: dict[str, tuple[str, str]]) -> None:
    for name, (metric, help) in entries.items():
        METRICS.add(name, f"ecr_bench.metrics.metric:{metric}", help)
        ASPECTS[name] = aspect


_add(
    "language modelling",
    {
        "bits_per_byte": ("BITS_PER_BYTE", "bits per byte of held-out text, mean over languages (less is better)"),
        "acc_mutual_info": ("ACCURACY", "accuracy on unseen languages, options chosen by what the text adds (PMI)"),
        "acc_mutual_info_coarse": ("ACCURACY", "the same on coarse tasks"),
        "acc_mutual_info_fine": ("ACCURACY", "the same on fine tasks"),
    },
)
_add(
    "drift",
    {
        "cka_base": ("CKA", "debiased linear CKA with the base model (1: same, 0: unrelated)"),
        "procrustes_base": ("PROCRUSTES", "squared Procrustes distance from the base model (0: same, 2: most)"),
        "code_stability": (
            "CODES",
            "share of codes that stay between the first projection and the cell's own",
        ),
        "code_stability_trained": (
            "CODES",
            "share of codes that stay if the projection read the trained model",
        ),
    },
)
_add(
    "manifold",
    {
        "intrinsic_dimension": ("TWO_NN", "TwoNN dimension of the sentence vectors"),
        "isoscore": ("ISO_SCORE", "how evenly dimensions are used (0: one direction, 1: all alike)"),
        "trustworthiness": ("TRUSTWORTHINESS", "neighbours are neighbours for the teacher, too (1: all, 0.5: chance)"),
        "continuity": ("CONTINUITY", "the teacher's neighbours are neighbours here, too (1: all, 0.5: chance)"),
        "mutual_knn_teacher": ("MUTUAL_NEIGHBOURS", "share of the 10 nearest neighbours in common with the teacher"),
    },
)
_add(
    "cross-lingual",
    {
        "mexa": ("MEXA", "share of translation pairs that are each other's nearest"),
        "retrieval": (
            "BOTH_WAYS",
            "share of sentences whose nearest in the other language is the translation",
        ),
        "retrieval_to_pivot": ("RETRIEVAL", "share of sentences whose nearest English one is the translation"),
        "retrieval_from_pivot": ("RETRIEVAL", "share of English sentences whose nearest is the translation"),
        "rankc": ("RANK_CONSISTENCY", "same ranking of the options of an item in two languages"),
        "hubness": ("HUBNESS", "skewness of how often a sentence is among the 10 nearest (0: no hubs)"),
        "language_separability": (
            "LANGUAGE_PROBE",
            "accuracy of a linear probe for the language (high: languages apart)",
        ),
    },
)
_add(
    "semantic similarity",
    {"sts_spearman": ("SIMILARITY", "Spearman correlation with human similarity")},
)
_add(
    "stability",
    {
        "grad_norm_median": ("GRAD_NORM_MEDIAN", "median gradient norm"),
        "grad_norm_p95": ("GRAD_NORM_P95", "95 % quantile of the gradient norm"),
        "grad_norm_max": ("GRAD_NORM_MAX", "largest gradient norm"),
        "spike_score": ("SPIKE_SCORE", "share of steps with a spike in loss or gradient norm"),
        "loss_spikes": ("LOSS_SPIKES", "number of loss spikes"),
        "diverged": ("DIVERGED", "1 if training failed; over runs, the divergence rate"),
    },
)
AGAINST_TEACHER = ("trustworthiness", "continuity", "mutual_knn_teacher")
"""What compares hidden states with the teacher's vectors."""
WITHOUT_TOKENS = (
    "cka_base", "procrustes_base", "mexa", "retrieval", "retrieval_to_pivot", "retrieval_from_pivot", "sts_spearman",
)  # fmt: skip
for _name in WITHOUT_TOKENS:
    METRICS.add(_name + PLAIN, METRICS.entries[_name], METRICS.help[_name] + "; text without control tokens")
    ASPECTS[_name + PLAIN] = ASPECTS[_name]

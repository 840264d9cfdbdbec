"""What exists for speed or memory alone, each piece beside its plain twin.

The same numbers come out up to rounding. ``ECR_BENCH_PLAIN=1`` (``fast.switch``) takes the twin of every piece.
"""

"""Where the checkout lies, and what lies beside it and not in it; tests that use that skip where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = next((above / "shared" for above in ROOT.parents if (above / "shared").is_dir()), ROOT.parent / "shared")
CASES = SHARED / "cases"
"""Small inputs that went wrong once."""
DATA = SHARED / "data"
"""Public data sets."""

needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="no folder shared/cases beside the checkout")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no folder shared/data beside the checkout")

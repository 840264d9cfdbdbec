"""Files that lie beside the checkout and not in it; tests that use them skip where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

_ABOVE = Path(__file__).resolve().parents
CASES = next((parent / "shared" / "cases" for parent in _ABOVE if (parent / "shared" / "cases").is_dir()), None)
"""Small inputs that went wrong once."""
DATA = next((parent / "shared" / "data" for parent in _ABOVE if (parent / "shared" / "data").is_dir()), None)
"""Public data sets."""

needs_cases = pytest.mark.skipif(CASES is None, reason="no folder shared/cases beside the checkout")
needs_data = pytest.mark.skipif(DATA is None, reason="no folder shared/data beside the checkout")

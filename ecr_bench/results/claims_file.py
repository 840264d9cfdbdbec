"""A claims file (``baselines/claims.yaml``) and judging what it says on a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ecr_bench.config import one_line
from ecr_bench.errors import UserError
from ecr_bench.io import fingerprint
from ecr_bench.results.claim_schema import ClaimSet, ClaimsReport
from ecr_bench.results.claims import evaluate
from ecr_bench.results.evidence import Facts
from ecr_bench.yaml_files import CLAIMS, read_yaml, shipped


def shipped_claims() -> Path:
    return shipped("baselines") / CLAIMS


def load_claims(path: Path) -> ClaimSet:
    """Read a claims file. UserError names the file, the claim, the key and what is allowed."""
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise UserError(f"{path}: a claims file is a mapping with a list 'claims'; see {shipped_claims()}")
    try:
        return ClaimSet.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{path}: {_which(error, raw)}{one_line(error, ClaimSet)}") from None


def claims_identity(claims: ClaimSet) -> str:
    """Hash of what the claims say."""
    return fingerprint(claims.model_dump(mode="json"))


def _which(error: ValidationError, raw: dict[str, Any]) -> str:
    """``claim beats-3x: `` where the complaint is about one claim that has an id."""
    match error.errors(include_url=False)[0]["loc"]:
        case ("claims", int(index), *_):
            entry = raw["claims"][index]
            return f"claim {entry['id']}: " if isinstance(entry, dict) and "id" in entry else ""
    return ""


def judge(name: str, facts: Facts, source: Path) -> ClaimsReport:
    """Evaluate the claims of a file on the run called ``name``; UserError names file, claim and wrong name."""
    claims = load_claims(source)
    return judge_claims(name, facts, claims, source.name, str(source))


def judge_claims(name: str, facts: Facts, claims: ClaimSet, source: str, shown: str = "") -> ClaimsReport:
    """The same for claims that were read; ``shown``: how an error calls the file, where not ``source``."""
    results = evaluate(claims, facts, shown or source)
    return ClaimsReport(
        run=name,
        source=source,
        fingerprint=claims_identity(claims),
        tested=sum(result.finding is not None for result in results),
        corrected=sum(result.finding is not None and not result.on_board for result in results),
        results=results,
    )

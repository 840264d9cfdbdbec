"""Push and pull of runs, without a hub: what would be sent, what is asked of it, and what of an answer is kept."""

from __future__ import annotations

import shutil

import huggingface_hub
import pytest

from ecr_bench.cli import main
from ecr_bench.errors import UserError
from ecr_bench.leaderboard.hub import pull, push
from ecr_bench.results.files import DamagedError
from ecr_bench.verify import verify
from tests.helpers.outside import ROOT

QUICK = ROOT / "results" / "quick"


class Hub:
    """A hub that keeps folders."""

    def __init__(self, folder):
        self.folder, self.asked = folder, []

    def create_repo(self, repository, **given):
        self.asked.append(("create_repo", repository, given["repo_type"]))

    def upload_folder(self, *, repo_id, folder_path, path_in_repo, allow_patterns, **_):
        target = self.folder / repo_id / path_in_repo
        target.mkdir(parents=True)
        for name in allow_patterns:
            shutil.copy(f"{folder_path}/{name}", target)

    def snapshot_download(self, repository, *, local_dir, **_):
        shutil.copytree(self.folder / repository, local_dir, dirs_exist_ok=True)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    return hub


def test_a_dry_run_says_what_would_be_sent_and_asks_nobody(hub, capsys):
    main(["push", "quick", "me/runs", "--out", str(ROOT / "results"), "--dry-run"])
    printed = capsys.readouterr().out
    assert "would send" in printed and "me/runs/quick" in printed and "records.parquet" in printed
    assert not hub.asked and not hub.folder.exists()


@pytest.mark.slow
def test_what_was_pushed_is_pulled_and_verified(hub, tmp_path):
    push(QUICK, "me/runs", dry_run=False)
    (hub.folder / "me/runs/quick/extra.py").write_text("print()")
    assert pull("me/runs", "quick", tmp_path / "runs")[-1] == f"fetched to {tmp_path / 'runs' / 'quick'}"
    assert verify(tmp_path / "runs" / "quick") and not (tmp_path / "runs" / "quick" / "extra.py").exists()
    with pytest.raises(UserError, match="is there already"):
        pull("me/runs", "quick", tmp_path / "runs")


def test_nothing_is_kept_of_a_run_that_was_changed(hub, tmp_path):
    push(QUICK, "me/runs", dry_run=False)
    with (hub.folder / "me/runs/quick/board.md").open("a") as file:
        file.write("better")
    with pytest.raises(DamagedError):
        pull("me/runs", "quick", tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []
    with pytest.raises(UserError, match="holds no run 'other'"):
        pull("me/runs", "other", tmp_path / "runs")
    with pytest.raises(UserError, match="a name has letters"):
        pull("me/runs", "../quick", tmp_path / "runs")


def test_a_hub_that_is_not_there_is_one_line(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UserError, match="me/runs/quick: no route to host"):
        pull("me/runs", "quick", tmp_path / "runs")

"""Secrets as folders of files."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forebay.cli.verbs import app
from forebay.cluster.folders import Folders
from forebay.cluster.secrets import SECRETS, Made, fill
from forebay.errors import ClusterError
from tests.command import forebay

FIRST = SECRETS[0]
TEXTS = {"a": "1", "b": "2\n"}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files(root: Path) -> dict[str, str]:
    found = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_text() for path in found}


async def test_what_was_made_can_be_read(tmp_path: Path) -> None:
    shelf = Folders(tmp_path / "new" / "er")
    assert await shelf.read(FIRST.name) is None
    assert await shelf.create(FIRST, TEXTS)
    assert await shelf.read(FIRST.name) == TEXTS
    assert [path.name for path in (tmp_path / "new" / "er").iterdir()] == [FIRST.name]


async def test_one_that_is_there_is_not_changed(tmp_path: Path) -> None:
    shelf = Folders(tmp_path)
    await shelf.create(FIRST, TEXTS)
    assert not await shelf.create(FIRST, {"a": "other"})
    assert await shelf.read(FIRST.name) == TEXTS
    assert set(files(tmp_path)) == {f"{FIRST.name}/a", f"{FIRST.name}/b"}


async def test_an_empty_folder_is_none(tmp_path: Path) -> None:
    (tmp_path / FIRST.name).mkdir()
    shelf = Folders(tmp_path)
    assert await shelf.read(FIRST.name) is None
    assert await shelf.create(FIRST, TEXTS)
    assert await shelf.read(FIRST.name) == TEXTS


@pytest.mark.parametrize(
    ("asked", "of_file", "of_folder"),
    [(0o400, 0o400, 0o700), (0o444, 0o444, 0o755), (0o440, 0o440, 0o750), (0o640, 0o640, 0o750)],
)
async def test_who_may_read_the_files_may_enter_the_folder(
    tmp_path: Path, asked: int, of_file: int, of_folder: int
) -> None:
    root = tmp_path / "secrets"
    before = os.umask(0o077)
    try:
        await Folders(root, asked).create(FIRST, TEXTS)
    finally:
        os.umask(before)
    assert mode(root / FIRST.name / "a") == of_file
    assert mode(root / FIRST.name) == of_folder
    assert mode(root) == 0o700


async def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ClusterError, match=f"{tmp_path}/file/{FIRST.name} cannot be made"):
        await Folders(tmp_path / "file").create(FIRST, TEXTS)
    (tmp_path / FIRST.name).mkdir()
    (tmp_path / FIRST.name / "a").write_bytes(b"\xff")
    with pytest.raises(ClusterError, match=f"{FIRST.name} cannot be read"):
        await Folders(tmp_path).read(FIRST.name)


async def test_the_command_makes_them_once_and_completes_what_is_missing(tmp_path: Path) -> None:
    root = tmp_path / "secrets"
    done = await forebay("secrets", "init", str(root))
    assert (done.code, done.err) == (0, "")
    made = files(root)
    assert {path.split("/")[0] for path in made} == {secret.name for secret in SECRETS}
    assert {mode(root / path) for path in made} == {0o400}
    assert not any(text.strip() in done.out for text in made.values())
    # Compose has no namespaces.
    assert made["forebay-monitor/host"].endswith("@rabbitmq:15672/forebay")
    for path in (root / "forebay-worker").iterdir():
        path.unlink()
    done = await forebay("secrets", "init", str(root), "--mode", "0444")
    assert done.out.count("created") == 1
    assert files(root) == made
    assert {path for path in made if mode(root / path) == 0o444} == {
        "forebay-worker/forebay_amqp_url",
        "forebay-worker/forebay_mongodb_url",
    }


@pytest.mark.parametrize("wrong", ["9", "rw", "0044", "01777", "-1"])
def test_a_mode_that_is_none_is_exit_2(tmp_path: Path, wrong: str) -> None:
    done = CliRunner().invoke(app, ["secrets", "init", str(tmp_path), f"--mode={wrong}"])
    assert done.exit_code == 2
    assert "file mode" in done.output
    assert not list(tmp_path.iterdir())


async def test_runs_at_once_agree(tmp_path: Path) -> None:
    runs = [
        asyncio.to_thread(lambda: asyncio.run(fill(Folders(tmp_path / "secrets"))))
        for _ in range(4)
    ]
    made = await asyncio.gather(*runs)
    for secret in SECRETS:
        assert sum(one[secret.name] is Made.CREATED for one in made) == 1
    again = await fill(Folders(tmp_path / "secrets"))
    assert set(again.values()) == {Made.UNCHANGED}
    # What they made fits: each can be taken away and is made again as it was.
    before = files(tmp_path)
    for name in ("forebay-worker", "forebay-monitor", "forebay-ingress"):
        for path in (tmp_path / "secrets" / name).iterdir():
            path.unlink()
    await fill(Folders(tmp_path / "secrets"))
    assert files(tmp_path) == before

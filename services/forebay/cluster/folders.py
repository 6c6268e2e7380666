"""Secrets as folders of files, one folder for each: for compose, and for looking at them."""

from __future__ import annotations

import errno
import secrets
import shutil
from pathlib import Path

from forebay.cluster.secrets import Secret, Texts
from forebay.errors import ClusterError

OWNER_ONLY = 0o400
_IS_THERE = frozenset({errno.EEXIST, errno.ENOTEMPTY})


class Folders:
    """A `Shelf` in a directory. A folder appears whole: it is written beside and then renamed.

    Args:
        root: where the folders are; made, for its owner only, when it is not there.
        mode: of each file. Folders get the right to enter wherever files have the right to read.
    """

    def __init__(self, root: Path, mode: int = OWNER_ONLY) -> None:
        self._root = root
        self._mode = mode

    async def read(self, name: str) -> Texts | None:
        """See `Shelf.read`; raises `ClusterError` for what cannot be read."""
        folder = self._root / name
        try:
            if not folder.is_dir():
                return None
            texts = {file.name: file.read_text() for file in folder.iterdir() if file.is_file()}
            # Docker makes an empty folder of a path that it is to mount and that is not there.
            return texts or None
        except (OSError, UnicodeDecodeError) as error:
            raise ClusterError(f"{folder} cannot be read: {error}") from error

    async def create(self, secret: Secret, texts: Texts) -> bool:
        """See `Shelf.create`; raises `ClusterError` where nothing can be written."""
        folder = self._root / secret.name
        new = self._root / f".{secret.name}.{secrets.token_hex(8)}"
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write(new, texts)
            return _put(new, folder)
        except OSError as error:
            raise ClusterError(f"{folder} cannot be made: {error}") from error
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _write(self, folder: Path, texts: Texts) -> None:
        folder.mkdir(mode=0o700)
        for key, text in texts.items():
            file = folder / key
            file.touch(mode=0o600)
            file.write_text(text)
            file.chmod(self._mode)
        folder.chmod(0o700 | (self._mode & 0o444) | ((self._mode & 0o444) >> 2))


def _put(new: Path, folder: Path) -> bool:
    """Give the new folder its name; False when one of this name was first."""
    try:
        # Onto a folder that has files in it the kernel does not rename.
        new.rename(folder)
    except OSError as error:
        if error.errno in _IS_THERE:
            return False
        raise
    return True

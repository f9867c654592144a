"""Refresh tokens that reached us and are not in an account yet: kept on disk, so that none is ever lost.

Proving a credential may rotate its refresh token. From then on the new one exists here only, while the account's
name is still to be learned and the account to be written, and any of that may fail.
"""

import asyncio
import json
import logging
import os
import re
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from authpool.accounts.account import fingerprint
from authpool.errors import BrokenAccountError, RefusedError, SealedError, StoreError, StoreUnavailableError
from authpool.files.atomic_file import FileOperations, replace_file
from authpool.files.home import secure_folder
from authpool.files.kernel_lock import Run, hold
from authpool.store import SealsSecrets
from authpool.store.sealing.sealed_value import Place, key_id_of
from authpool.verbs.sources import (
    Credential,
    SealedCredential,
    credential_document,
    parse_credential,
    read_source,
    sealed_document,
)

logger = logging.getLogger(__name__)

FOLDER = "unclaimed"

_NAME = re.compile(r"[a-z0-9_-]+-[0-9a-f]{8}\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """A file with a credential that is in no account; `trouble` says why that can't be read.

    `marks` are the fingerprints of its refresh token, and of those that were exchanged for it.
    """

    path: Path
    credential: Credential
    marks: frozenset[str]
    trouble: str = ""


class RescuedTokens:
    """The folder `unclaimed` of a home: ``<pool>-<fingerprint of the refresh token>.json``, a source of its own.

    `keep` and `drop` block for a moment, and are meant for a worker thread.
    """

    def __init__(
        self, home: Path, *, run: Run, files: FileOperations | None = None, seals: SealsSecrets | None = None
    ) -> None:
        """`seals` seals what is kept, if it seals anything."""
        self._seals = seals
        self._folder = home / FOLDER
        self._run = run
        self._made = False
        """Whether the folder was just looked at, by whoever is alone."""
        self._files = files or FileOperations()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Let one credential at a time be proved on a home: two that present one token would kill it.

        Raises RefusedError or StoreUnavailableError when nothing could be kept here, before anything was spent.
        """
        await self._run(self._make_folder)
        async with hold(self._folder / ".lock", self._run):
            self._made = True
            try:
                yield
            finally:
                self._made = False

    async def save(self, pool: str, credential: Credential) -> Path | None:
        """As `keep`, in a thread; None as well when the disk does not answer.

        A caller that is cancelled leaves it to come to its end.
        """
        try:
            return await asyncio.shield(self._save(pool, credential))
        except StoreUnavailableError as error:
            logger.error("A new refresh token can't be kept in %s: %s", self._folder, error)
            return None

    async def _save(self, pool: str, credential: Credential) -> Path | None:
        sealed = await self._sealed(pool, credential)
        kept: Path | None = await self._run(self.keep, pool, credential, sealed)
        return kept

    async def discard(self, path: Path | None) -> None:
        """As `drop`, in a thread; what a disk that does not answer keeps is spent, and harms nobody."""
        if path is None:
            return
        with suppress(StoreUnavailableError):
            await self._run(self.drop, path)

    async def any(self) -> bool:
        """Whether anything is kept here."""
        found: bool = await self._run(lambda: any(self._folder.glob("*.json")))
        return found

    async def all(self) -> "list[Rescued]":
        """All that is kept here, still sealed where it is."""
        found: list[Rescued] = await self._run(self._all)
        return found

    async def of(self, marks: Collection[str]) -> "list[Rescued]":
        """All that came of refresh tokens with these fingerprints, at whatever remove, or is one of them."""
        files: list[Rescued] = await self._run(self._all)
        known, found = set(marks), list[Rescued]()
        while new := [one for one in files if one not in found and known & one.marks]:
            found += new
            known |= {mark for one in new for mark in one.marks}
        return [await self._readable(one) for one in found]

    async def _readable(self, one: "Rescued") -> "Rescued":
        if one.credential.sealed is None:
            return one
        try:
            return replace(one, credential=await self.opened(one.credential))
        except (RefusedError, StoreError) as error:
            return replace(one, trouble=str(error))

    def _all(self) -> "list[Rescued]":
        found = []
        for path in sorted(self._folder.glob("*.json")):
            with suppress(RefusedError, OSError):  # whose that is nobody can tell
                credential = read_source(f"@{path}", environ={})
                sealed = credential.sealed
                own = fingerprint(credential.refresh_token or "") if sealed is None else sealed.fingerprint
                marks = frozenset({own, *credential.exchanged_from})
                found.append(Rescued(path=path, credential=credential, marks=marks))
        return found

    async def successor(self, refresh_token: str) -> Credential | None:
        """What a refresh token was exchanged for by an `add` that was cut off, or refused afterwards, if it is here."""
        found: Credential | None = await self._run(self._successor, fingerprint(refresh_token))
        return None if found is None else await self.opened(found)

    async def opened(self, credential: Credential) -> Credential:
        """A credential that was kept here, with what is sealed in it. Raises RefusedError, StoreError."""
        sealed = credential.sealed
        if sealed is None:
            return credential
        if self._seals is None:
            raise RefusedError("it is sealed, and this store seals nothing: add it where it was kept")
        text = await self._seals.open_text(_place(sealed), sealed.value)
        return parse_credential(text, str(credential.path or "the source"), path=credential.path)

    async def rewrite(self) -> tuple[int, list[Path]]:
        """Write what is kept in the home as it would be written now, sealed or not.

        Answers how many files were written, and which can't be read. Raises RefusedError, StoreUnavailableError.
        """
        if not self._folder.is_dir():
            return 0, []
        written, unreadable = 0, []
        async with self.alone():
            for path in await self._run(lambda: sorted(self._folder.glob("*.json"))):
                try:
                    written += await self._rewrite(path)
                except (RefusedError, BrokenAccountError, SealedError, OSError):
                    unreadable.append(path)
        return written, unreadable

    async def _rewrite(self, path: Path) -> bool:
        read: Credential = await self._run(read_source, f"@{path}", environ={})
        credential = await self.opened(read)
        pool = path.name.rpartition("-")[0] if read.sealed is None else read.sealed.pool
        document = await self._document(pool, credential)
        if key_id_of(None if read.sealed is None else read.sealed.value) == key_id_of(document.get("sealed")):
            return False
        await self._run(self._write, path, _json(document))
        return True

    async def _sealed(self, pool: str, credential: Credential) -> dict[str, Any]:
        """What to write of a credential; in plain where it can't be sealed, for it is nowhere else."""
        try:
            return await self._document(pool, credential)
        except (SealedError, StoreUnavailableError) as error:
            logger.error("A new refresh token can't be sealed (%s): it is kept in plain", error)
            return credential_document(credential)

    async def _document(self, pool: str, credential: Credential) -> dict[str, Any]:
        document = credential_document(credential)
        if self._seals is None:
            return document
        mark = fingerprint(credential.refresh_token or "")
        value = await self._seals.seal_text(Place(FOLDER, pool, mark), json.dumps(document))
        if value is None:
            return document
        sealed = SealedCredential(pool=pool, fingerprint=mark, value=value)
        return sealed_document(sealed, credential.exchanged_from)

    def keep(self, pool: str, credential: Credential, document: Mapping[str, Any] | None = None) -> Path | None:
        """Write a credential durably, and tell where: in the home, else among the machine's temporary files.

        None when neither takes it. The name that its source claimed is left out: it may be what was wrong with it.
        `document` is how it is written, where that is sealed.
        """
        data = _json(credential_document(credential) if document is None else document)
        name = f"{pool}-{fingerprint(credential.refresh_token or '')}.json"
        try:
            if not self._made:
                self._make_folder()
            return self._write(self._folder / name, data)
        except (OSError, RefusedError) as error:
            logger.error("A new refresh token can't be kept in %s: %s", self._folder, error)
        try:
            return self._keep_elsewhere(name, data)
        except OSError as error:
            logger.error("Nor can it be kept in %s: %s", tempfile.gettempdir(), error)
        return None

    def drop(self, path: Path | None) -> None:
        """Remove what `keep` wrote, now or in an earlier run; a file that lies elsewhere is left alone."""
        if path is None or not self._is_ours(path := Path(os.path.abspath(path))):
            return
        with suppress(OSError):
            self._files.unlink(path)
            if path.parent != self._folder:
                path.parent.rmdir()

    def _successor(self, mark: str) -> Credential | None:
        for path in sorted(self._folder.glob("*.json")):
            with suppress(RefusedError, OSError):  # what can't be read is somebody's who reads it by hand
                credential = read_source(f"@{path}", environ={})
                if mark in credential.exchanged_from:
                    return credential
        return None

    def _make_folder(self) -> None:
        secure_folder(self._folder, inside=True)

    def _is_ours(self, path: Path) -> bool:
        if path.parent == self._folder:
            return True
        temporary = path.parent.parent == Path(tempfile.gettempdir()) and path.parent.name.startswith("authpool-")
        return temporary and _NAME.fullmatch(path.name) is not None

    def _keep_elsewhere(self, name: str, data: bytes) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="authpool-"))
        try:
            return self._write(folder / name, data)
        except OSError:
            folder.rmdir()
            raise

    def _write(self, path: Path, data: bytes) -> Path:
        replace_file(self._files, path, data, lambda: None)
        return path


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2).encode() + b"\n"


def _place(sealed: SealedCredential) -> Place:
    return Place(FOLDER, sealed.pool, sealed.fingerprint)

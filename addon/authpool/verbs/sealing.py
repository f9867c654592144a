"""The verbs `seal`, `unseal` and `rekey`: all of a home at once, beside whatever runs on it.

First the keys change, in one step, and from then on everybody writes by them. Then each record is written anew, in one
step of its own, under the same lock as any change; what is not written yet can be read all the same. So these verbs may
end at any point, and the same verb goes on from there.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from authpool.config.seal_key import HOW_TO_MAKE, SealKey
from authpool.errors import RefusedError, SealedError, mistakes_placed
from authpool.gateway.service import Service
from authpool.store import SealedPart, SealsSecrets
from authpool.store.sealing.key_ring import KeyRing, OperatorKey
from authpool.verbs.rescued_tokens import RescuedTokens

type Progress = Callable[[int, int], None]
"""Told how many parts are done, of how many."""


@dataclass(slots=True, kw_only=True)
class Rewriting:
    """What was done: how many records were `written`, how many were so already, and which can't be read."""

    written: int = 0
    as_they_were: int = 0
    unreadable: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = f"{_counted(self.written, 'record')} written"
        return f"{told}, {self.as_they_were} were so already" if self.as_they_were else told


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """How one of the verbs ended: a sentence, and what was written."""

    message: str
    rewriting: Rewriting = field(default_factory=Rewriting)


class Sealing:
    """Carries them out on the store of one service. Each raises RefusedError, StoreError and ConfigurationError."""

    def __init__(self, service: Service, unclaimed: RescuedTokens) -> None:
        self._service = service
        self._unclaimed = unclaimed

    async def fingerprint(self) -> str:
        """Of the operator's key that is configured."""
        return self._operator_key().fingerprint

    async def seal(self, progress: Progress) -> Sealed:
        """Seal whatever is not sealed, and whatever is sealed with a former data key."""
        store = await self._store()
        await store.change_keys(lambda ring: ring.turned(sealing=True))
        done = await self._rewrite(store, progress, "seal")
        message = f"The accounts' secrets are sealed: {done}"
        seal_key = self._service.snapshot.config.gateway.seal_key
        if seal_key is not None and seal_key.lies_in_home:
            message += ". The key lies in the home itself, so whoever copies the home has both: keep it elsewhere"
        return Sealed(message=message, rewriting=done)

    async def unseal(self, progress: Progress) -> Sealed:
        """Write everything in plain, and seal nothing from now on."""
        store = await self._store()
        await store.change_keys(lambda ring: ring.turned(sealing=False))
        done = await self._rewrite(store, progress, "unseal")
        message = f"The accounts' secrets are in plain, and stay so until `authpool seal`: {done}"
        return Sealed(message=f"{message}. `seal_key` may go from authpool.toml now", rewriting=done)

    async def rekey(self, to: SealKey | None, *, data_key: bool, progress: Progress) -> Sealed:
        """Let another operator's key open the data keys, beside the configured one; without one, that one alone.

        `data_key`: seal with a new data key, and everything anew.
        """
        store, operator = await self._store(), self._operator_key()
        said = []
        if to is not None:
            said.append(await _let_in(store, operator, to, self._new_data_key if data_key else _no_change))
        elif data_key:
            await store.change_keys(self._new_data_key)  # refused where another operator's key would be left behind
        else:
            said.append(await _let_in_alone(store, operator))
        if not data_key:
            return Sealed(message=said[0])
        done = await self._rewrite(store, progress, "seal")
        said.append(f"Everything is sealed with a new data key: {done}")
        return Sealed(message=". ".join(said), rewriting=done)

    def _new_data_key(self, ring: KeyRing) -> KeyRing:
        if not ring.sealing:
            raise RefusedError("nothing is sealed here: run `authpool seal` first")
        return ring.with_new_key(self._service.clock.time())

    async def _store(self) -> SealsSecrets:
        """The store, with the operator's key at hand. Raises RefusedError, SealedError, ConfigurationError."""
        store = self._service.store
        if not isinstance(store, SealsSecrets):
            raise RefusedError("this store keeps nothing sealed")
        self._operator_key()
        if why := await store.locked():
            raise SealedError(why)
        return store

    def _operator_key(self) -> OperatorKey:
        seal_key = self._service.snapshot.config.gateway.seal_key
        if seal_key is None:
            raise RefusedError(
                'there is no key to seal with: name one in authpool.toml, as [gateway] seal_key = "file:PATH" (or '
                f'"env:NAME", "keyring:NAME"). {HOW_TO_MAKE}'
            )
        with mistakes_placed(self._service.home):
            return OperatorKey(seal_key.resolve())

    async def _rewrite(self, store: SealsSecrets, progress: Progress, verb: str) -> Rewriting:
        done = Rewriting()
        parts = await store.parts()
        try:
            progress(0, len(parts))
            for number, part in enumerate(parts, 1):
                await _rewrite_one(store, part, done)
                progress(number, len(parts))
            await store.finish_rewriting()
            written, unreadable = await self._unclaimed.rewrite()
        except asyncio.CancelledError as cancelled:
            cancelled.add_note(
                f"At least {done.written} of {_counted(len(parts), 'record')} are written; all can be read. "
                f"Go on with: authpool {verb}"
            )
            raise
        done.written += written
        done.unreadable += map(str, unreadable)
        return done


async def _rewrite_one(store: SealsSecrets, part: SealedPart, done: Rewriting) -> None:
    try:
        match await store.rewrite(part):
            case "written":
                done.written += 1
            case "as it was":
                done.as_they_were += 1
            case "unreadable":
                done.unreadable.append(f"{part.pool}/{part.name}")
    except SealedError:
        if await store.locked():
            raise
        done.unreadable.append(f"{part.pool}/{part.name}")


async def _let_in(store: SealsSecrets, operator: OperatorKey, to: SealKey, change: Callable[[KeyRing], KeyRing]) -> str:
    """Let another operator's key open the data keys as well. Answers what is to be done next."""
    new = OperatorKey(to.resolve())
    if new == operator:
        raise RefusedError("--to names the key that authpool.toml names already")
    await store.change_keys(change, [operator, new])
    return (
        f"The operator's key {to.source} (fingerprint {new.fingerprint}) opens the accounts now, beside the former "
        "one. Go on: 1. name it as `seal_key` in authpool.toml; 2. start gateways anew that get their key from the "
        "environment; 3. `authpool rekey` takes the former one away"
    )


async def _let_in_alone(store: SealsSecrets, operator: OperatorKey) -> str:
    """Let no other operator's key open the data keys any more. Answers whether one did."""
    others: set[str] = set()

    def look(ring: KeyRing) -> KeyRing:
        others.update(ring.openers)
        return ring

    await store.change_keys(look, [operator])
    if others - {operator.fingerprint}:
        return f"The operator's key with the fingerprint {operator.fingerprint} alone opens the accounts from now on"
    return (
        "The configured operator's key is the only one that opens the accounts. For another one: "
        "authpool rekey --to file:PATH; for a new data key: authpool rekey --data-key"
    )


def _no_change(ring: KeyRing) -> KeyRing:
    return ring


def _counted(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"

"""A world for the refresh protocol: a provider, a folder, processes, an operator, and everything that goes wrong.

Gateways follow the folder and refresh by themselves; the command line is a process for one command.

Nothing here decides what happens next; whoever plays it calls one method after the other. After each, `check` says
whether the promise still holds: no healthy account is lost.
"""

import asyncio
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

from authpool.accounts.account import Account, AccountKey, Token, fingerprint
from authpool.accounts.events import AccountEvent, EventKind
from authpool.config.host_pattern import HostPattern
from authpool.config.pool_config import ClientConfig, PoolConfig
from authpool.errors import AuthpoolError
from authpool.oauth.verdict import Answer, Reply
from authpool.refresh.credential_rules import MOVED_FROM, RESTORED, went_on
from authpool.refresh.ledger import ROTATION_LOST
from authpool.refresh.outcome import Outcome, Ready
from authpool.store.client_record import ACCOUNTS
from authpool.store.folder.account_file import dump_account, parse_account
from authpool.store.folder.store import FolderStore
from authpool.store.sealing.key_ring import KeyRing, OperatorKey
from support.answers import JSON
from support.crashing_files import Crash, Disk
from support.crashing_process import ACCOUNTS as ACCOUNTS_FOLDER
from support.crashing_process import CrashingProcess, Flying, inline
from support.crashing_trail import TrailReader, put_trail_back, trail_content
from support.fates import ARRIVES, CLEAR, Fate, reaches_the_provider, what_arrives
from support.rotating_provider import RotatingProvider
from support.trail import AuditTrail
from support.virtual_time import VirtualClock, VirtualTimeLoop

type Edit = Literal["pause", "resume", "label", "token_label"]

_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """Everything that was in a home once."""

    files: Mapping[AccountKey, bytes] = field(repr=False)
    trail: dict[str, bytes] = field(repr=False)


class World:
    """Accounts are known by name, and each is of one pool; two of the pools share a client."""

    def __init__(self, provider: dict[str, Any], operator_key: OperatorKey | None = None) -> None:
        """With an `operator_key` the accounts are sealed."""
        self.loop = VirtualTimeLoop()
        self.loop.set_exception_handler(self._unhandled)
        self.clock = VirtualClock(self.loop)
        self.provider = RotatingProvider(**provider, monotonic=self.loop.time)
        self.home = Path(tempfile.mkdtemp(prefix="world-", dir=_MEMORY if _MEMORY.is_dir() else None))
        self.disk = Disk()
        self.air: list[Flying] = []
        self.processes: list[CrashingProcess] = []
        self._pools = {
            "pool": pool_config(),
            "twin": pool_config(name="twin"),
            "other": pool_config(
                name="other",
                client=ClientConfig(client_id="other", client_secret="s", client_auth="client_secret_post"),
            ),
        }
        self.cursed: set[str] = set()
        """Clients, by id, all of whose refresh tokens the provider rejects for now."""
        self._cursed_tokens: set[str] = set()
        """Refresh tokens that were rejected for their client's sake."""
        self._told_dead: Counter[str] = Counter()
        """How often a process heard `invalid_grant` of a refresh token."""
        self._verdicts: set[tuple[AccountKey, str, int | None]] = set()
        """Which account was disabled, why and when: a verdict is judged once, also where it comes back."""
        self._died: dict[str, set[AccountKey]] = {}
        """By client: who was disabled since it was accepted last."""
        self._pending_writes: set[AccountKey] = set()
        """Whose verdict is of before that, and not written yet."""
        (self.home / ACCOUNTS_FOLDER).mkdir(mode=0o700)
        self._operator = FolderStore(self.home / ACCOUNTS_FOLDER, run=inline)
        self._operator_key = operator_key
        self._operator.seal_with(operator_key)
        self._reader = TrailReader(self.home)
        self._trail = AuditTrail(self.home, self.clock, "command line")
        self._numbers = iter(range(1_000_000))
        self._grant_of: dict[str, int] = {}
        self._revoked: set[int] = set()
        self._unclear: set[str] = set()
        self._successors: dict[str, str] = {}
        self._exchanged_by: dict[str, AccountKey] = {}
        """Which account presented a refresh token when a newer one was given for it."""
        self._arrived: dict[str, tuple[CrashingProcess, AccountKey]] = {}
        self._on_disk: set[str] = set()
        self._edits: dict[AccountKey, dict[str, Any]] = {}
        self._disabled: set[AccountKey] = set()
        self._drafts: dict[AccountKey, bytes] = {}
        self._backup: Backup | None = None
        self._said: set[str] = set()
        """By fingerprint, the refresh tokens that the audit trail, or a record, ever showed as exchanged, or was to."""
        self._forced: set[str] = set()
        """Refresh tokens that somebody let count again by force, and that were not exchanged since."""
        self._insisted: set[str] = set()
        """The same, as far as the audit trail still says so."""
        self._excused: set[int] = set()
        """Grants of which a spent token was presented, and the audit trail could not know."""
        self._brought_back: set[int] = set()
        """Grants of which somebody brought a token back, or a second copy into the folder."""
        self._put_presenting: set[AccountKey] = set()
        """Of whom a file was put in place by hand that says of itself that it presents its token."""
        self._anew_at: dict[AccountKey, float] = {}
        """When a file was put in place by hand where there was none."""
        self._posted_at: dict[int, float] = {}
        """When each POST that is in the air went out, by its identity."""
        self._asking: WeakKeyDictionary[asyncio.Task[Any], str] = WeakKeyDictionary()
        """Which token a refresh under way presented last."""
        self._erased: set[str] = set()
        """Refresh tokens whose intent somebody's editor took out of the file."""
        self._surprises: list[str] = []
        for pool in self._pools:
            (self.home / ACCOUNTS_FOLDER / pool).mkdir(mode=0o700)

    # --- what happens -----------------------------------------------------------------------------------------

    def run(self, doing: Coroutine[Any, Any, Any] | None = None, seconds: float = 0.25) -> None:
        """Do something in one of the processes, and let everybody go on for a while."""

        async def do() -> None:
            if doing is not None:
                with suppress(Crash):
                    await doing
            await asyncio.sleep(seconds)

        self.loop.run_until_complete(do())
        self._unclear |= {f.refresh_token for f in self.air if f.landed.cancelled()}  # nobody answered in time
        self.air = [f for f in self.air if not (f.landed.done() or f.process.dead)]

    def start(self, number: int, *, gateway: bool = True) -> None:
        """Start a process, in the place of one that crashed; one that is no gateway does only what it is told to."""
        process = CrashingProcess(self.home, self.disk, self.clock, self._pools, self._posted, gateway=gateway)
        process.store.seal_with(self._operator_key)
        self.processes[number : number + 1] = [process]
        self.run(process.load())

    def take_off(self, process: CrashingProcess, key: AccountKey, **how: Any) -> asyncio.Task[Outcome] | None:
        """Begin a refresh of the account as the process last saw it."""
        seen = process.seen.get(key)
        if seen is None:
            return None
        callers: list[asyncio.Task[Outcome]] = []

        async def begin() -> None:
            callers.append(process.request(seen, **how))

        self.run(begin())
        callers[0].add_done_callback(lambda task: task.cancelled() or task.exception())
        return callers[0]

    def land(self, flying: Flying, fate: Fate, *, crash: bool = False) -> None:
        """Let a POST come to its end; with `crash` its process dies before it hears of it."""
        self.air.remove(flying)
        answer, given = self._answer(flying, fate)
        # What was presented, alone in the answer, tells no more than an answer that was lost.
        clear = fate in CLEAR or (fate in ARRIVES and given != flying.refresh_token)
        if crash or not clear:
            self._unclear.add(flying.refresh_token)
        if crash:
            self.kill(flying.process)
            return
        if isinstance(answer, Reply) and answer.status == 400:
            self._told_dead[flying.refresh_token] += 1
        if given is not None and fate in {*ARRIVES, "cut_after"}:
            self._accepted(flying.form["client_id"])
        if given is not None and fate in ARRIVES:
            self._arrived[given] = flying.process, flying.key
        flying.landed.set_result(answer)
        self.run()

    def kill(self, process: CrashingProcess) -> None:
        async def end() -> None:
            process.crash()

        self.run(end())

    def revoke(self, name: str) -> None:
        """The user ends every grant of the account at the provider."""
        self.provider.revoke(name)
        self._revoked |= {grant for token, grant in self._grant_of.items() if token.endswith(f"-of-{name}")}

    def command(self, key: AccountKey) -> None:
        """Refresh an account on the command line, unless that is busy."""
        if self._commander() is not None:
            self.take_off(self.processes[2], key, force=True)

    def _commander(self) -> CrashingProcess | None:
        if len(self.processes) > 2 and not self.processes[2].dead and self.processes[2].busy:
            return None
        self.start(2, gateway=False)
        return self.processes[2]

    def enable_by_force(self, key: AccountKey) -> None:
        """Somebody who knows better takes a disabled account back."""
        held = self.stored(key)
        commander = self._commander() if held is not None and held.disabled else None
        if held is None or commander is None:
            return
        done = self._run_verb(commander.enable_by_force(key))
        now = self.stored(key)
        if now is not None and not now.disabled:  # also where it failed at last: the folder could not be synced
            self._forced.add(now.token.refresh_token or "")
            self._brought_back.add(self._grant_of[now.token.refresh_token or ""])
            if done:
                self._insisted.add(now.token.refresh_token or "")

    def move(self, key: AccountKey, pool: str, step: str | None, writes: int) -> None:
        """Move an account on the command line, which may die of it."""
        commander, target = self._commander(), AccountKey.of(pool, key.name)
        if commander is None:
            return
        commander.files.step, commander.files.writes_left = step, writes
        before, source, known = self.stored(target), self.stored(key), self._edits.get(target)
        self._run_verb(commander.move(key, pool))
        commander.files.step = None
        goes_on = before is not None and source is not None and went_on(before, source)
        if self.stored(target) not in (None, before) and key in self._edits and not goes_on:
            self._edits[target] = dict(self._edits[key])
            if known is not None and known["proxy_disabled"]:
                self._edits[target]["proxy_disabled"] = True
            (self._disabled.add if key in self._disabled else self._disabled.discard)(target)
        if self.stored(key) is None and target in self._edits:
            self._forget(key)

    def reseal(self, change: Callable[[KeyRing], KeyRing], records: int, step: str | None, writes: int) -> None:
        """Change the keys on the command line, and write so many records by them; it may die of it, at a `step`."""
        commander = self._commander()
        if commander is None:
            return

        async def work() -> None:
            await commander.store.change_keys(change)
            for part in (await commander.store.parts())[:records]:
                await commander.store.rewrite(part)

        commander.files.step, commander.files.writes_left = step, writes
        self._run_verb(work())
        commander.files.step = None

    def _run_verb(self, verb: Coroutine[Any, Any, None]) -> bool:
        """Answers whether it says that it is done."""
        done: list[None] = []

        async def attempt() -> None:
            with suppress(AuthpoolError):
                done.append(await verb)

        self.run(attempt())
        return bool(done)

    def resume(self, pool: str) -> None:
        """Say that a pool's client is well."""
        client = self._client_of(pool)
        living = [process for process in self.processes if not process.dead]
        if living and self.disk.trouble is None:
            self.run(living[0].refresher.end_storms(self._pools[pool], ()))
            self._accepted(client)

    def _client_of(self, pool: str) -> str:
        client = self._pools[pool].client
        assert client is not None
        return client.client_id

    def _accepted(self, client: str) -> None:
        self._died.pop(client, None)
        self._pending_writes |= {
            key for process in self.processes if not process.dead for key in process.unwritten_keys
        }

    # --- the operator -----------------------------------------------------------------------------------------

    def add(self, name: str, *, by_hand: bool = False) -> None:
        """Sign in, and write what came of it: a new account, or the old one re-added. No lock, as by hand."""
        issued = self.provider.issue(name)
        self._grant_of[issued["refresh_token"]] = next(self._numbers)
        token = Token(access_token=issued["access_token"], refresh_token=issued["refresh_token"], expires_at=0)

        def renew(current: Account | None) -> Account:
            return (current or Account(pool=key.pool, name=name)).with_token(token).with_enabled()

        key = key_of(name)
        self._edits.setdefault(key, {"proxy_disabled": False, "extra": {}})["token_extra"] = {}
        self.run(self._operator.update(key, renew))
        if not by_hand:
            self._write_down("readded", key)

    def _write_down(self, kind: EventKind, key: AccountKey) -> None:
        account = self.stored(key)
        if self.disk.trouble is None:
            self._trail.record(AccountEvent(kind=kind, account=account or Account(pool=key.pool, name=key.name)))

    def edit(self, key: AccountKey, what: Edit) -> None:
        """Change something that is the operator's own."""
        number = next(self._numbers)

        def change(current: Account | None) -> Account | None:
            if current is None:
                return None
            edits = self._edits[key]
            match what:
                case "pause":
                    edits["proxy_disabled"] = True
                    return current.with_paused(number)
                case "resume":
                    edits["proxy_disabled"] = False
                    return current.with_resumed()
                case "label":
                    edits["extra"] = {"label": number}
                    return replace(current, extra={"label": number})
                case "token_label":
                    edits["token_extra"] = {"label": number}
                    return replace(current, token=replace(current.token, extra={"label": number}))

        self.run(self._operator.update(key, change))

    def remove(self, key: AccountKey, *, by_hand: bool = False) -> None:
        self._forget(key)
        self.run(self._operator.update(key, lambda _: None))
        if not by_hand:
            self._write_down("removed", key)

    def _forget(self, key: AccountKey) -> None:
        self._edits.pop(key, None)
        self._drafts.pop(key, None)
        self._disabled.discard(key)

    def known_keys(self) -> list[AccountKey]:
        """Every account that there is, as far as people know."""
        return sorted(self._edits)

    def save_by_rename(self, key: AccountKey, meanwhile: Flying | None) -> None:
        """Save the file as some editors do, with a moment in which there is none; a POST may land within it."""
        path = self._operator.path_of(key)
        if path is None:
            return
        held = self.stored(key)
        self._unclear.add((held.token.refresh_token if held else None) or "")
        backup = path.with_suffix(".toml~")
        path.rename(backup)
        if meanwhile is not None:
            self.land(meanwhile, "answer")
        backup.rename(path)
        self.run(seconds=1.0)

    def open_editor(self, key: AccountKey) -> None:
        """Load the file into an editor, as it is now."""
        path = self._operator.path_of(key)
        if path is not None:
            self._drafts[key] = path.read_bytes()

    def save_editor(self, key: AccountKey, *, noticed: bool = True) -> None:
        """Save what was loaded over whatever came since; the gateways take it in, or (not `noticed`) have not yet."""
        draft = self._drafts.get(key)
        if draft is None or self.stored(key) is None:
            return
        self._put_in_place(key, draft)
        self._look_around(noticed=noticed)

    def copy(self, key: AccountKey, to: AccountKey, *, noticed: bool) -> None:
        """Copy an account's file by hand: into another pool of the client, or under another name."""
        path = self._operator.path_of(key)
        if path is None or self._operator.path_of(to) is not None:
            return
        content = path.read_bytes()
        if self._operator_key is not None:  # as it is, it would open under no other name
            content = dump_account(self._parsed(key, content))
        renamed = content.replace(f'name = "{key.name}"\n'.encode(), f'name = "{to.name}"\n'.encode())
        self._put_in_place(to, renamed)
        self._look_around(noticed=noticed)

    def back_up(self) -> None:
        """Copy the accounts and the audit trail away."""
        files = {
            key: path.read_bytes() for key in self.known_keys() if (path := self._operator.path_of(key)) is not None
        }
        self._backup = Backup(files=files, trail=trail_content(self.home))

    def restore(self, key: AccountKey | None, *, trail: bool, clean: bool, noticed: bool) -> None:
        """Put the backup back: one account's file, or all of them; `clean`: what is not in it goes.

        With the `trail` nobody can know any more, but for a gateway that read it before.
        """
        if self._backup is None:
            return
        if key is not None:
            if key in self._backup.files:
                self._put_in_place(key, self._backup.files[key])
        else:
            self.run(seconds=1.0)
            self._restore_trail(self._backup.trail if trail else None)
            for gone in set(self.known_keys()) - self._backup.files.keys() if clean else ():
                self.remove(gone, by_hand=True)
            for each, content in self._backup.files.items():
                self._put_in_place(each, content)
        self._look_around(noticed=noticed)

    def _restore_trail(self, content: dict[str, bytes] | None) -> None:
        if content is None:
            return
        known = self._reader.exchanged()
        for process in self.processes:
            if process.gateway and not process.dead:
                process.aware |= known
        self._insisted.clear()
        put_trail_back(self.home, content)

    def _put_in_place(self, key: AccountKey, content: bytes) -> None:
        held, saved = self.stored(key), self._parsed(key, content)
        if saved.presents:
            self._put_presenting.add(key)
        if held is None:
            self._anew_at[key] = self.loop.time()
        if saved.pending_refresh is not None:
            self._unclear.add(saved.token.refresh_token or "")
        tokens = {account.token.refresh_token or "" for account in (saved, held) if account is not None}
        if held is not None:
            self._on_disk.add(held.token.refresh_token or "")
        if len(tokens) > 1 or held is None:
            self._brought_back |= {self._grant_of[token] for token in tokens}
            self._erased |= set() if _says_that_an_answer_was_lost(saved) else tokens
        elif _says_that_an_answer_was_lost(held) and not _says_that_an_answer_was_lost(saved):
            self._erased |= tokens
        self._edits[key] = {
            "proxy_disabled": saved.proxy_disabled,
            "extra": _own(saved.extra),
            "token_extra": dict(saved.token.extra),
        }
        (self._disabled.add if saved.disabled else self._disabled.discard)(key)
        path = self._operator.path_of(key) or self.home / ACCOUNTS_FOLDER / key.pool / f"{key.name}.toml"
        aside = path.with_suffix(".new")
        aside.touch(mode=0o600)
        aside.write_bytes(content)
        aside.replace(path)

    def _look_around(self, *, noticed: bool) -> None:
        """The gateways take it in, or (not `noticed`) have not yet."""
        for process in self.processes if noticed else ():
            if not process.dead:
                self.run(process.follow())

    # --- what must hold ---------------------------------------------------------------------------------------

    def stored(self, key: AccountKey) -> Account | None:
        path = self._operator.path_of(key)
        return None if path is None else self._parsed(key, path.read_bytes())

    def _parsed(self, key: AccountKey, content: bytes) -> Account:
        return parse_account(key.pool, key.name, content, self._operator._sealing)

    def check(self) -> None:
        """Raise AssertionError when the promise is broken."""
        assert not self._surprises, self._surprises
        self._said |= self._reader.exchanged().union(*(process.noted for process in self.processes))
        for key in self._edits:
            account = self.stored(key)
            assert account is not None, f"{key} is gone, and nobody removed it"
            if self.disk.trouble or any(process.dead for process in self.processes):
                self._unclear.add(account.token.refresh_token or "")
            self._on_disk.add(account.token.refresh_token or "")
            self._said |= {account.replaced or ""}
            self._check_edits(key, account)
            self._check_disabled(key, account)
        for token, (process, key) in list(self._arrived.items()):
            self._check_arrived(token, process, key)

    def _check_edits(self, key: AccountKey, account: Account) -> None:
        edits = self._edits[key]
        assert account.proxy_disabled == edits["proxy_disabled"], f"{key}: somebody undid the operator's switch"
        assert _own(account.extra) == edits["extra"], f"{key}: an operator's edit is undone"
        assert account.token.extra == edits["token_extra"], f"{key}: an operator's edit is undone"

    def _check_disabled(self, key: AccountKey, account: Account) -> None:
        newly = account.disabled and key not in self._disabled
        (self._disabled.add if account.disabled else self._disabled.discard)(key)
        if not newly:
            return
        token, reason = account.token.refresh_token or "", account.disabled_reason or ""
        if reason.startswith(RESTORED):
            self._check_restored(key, token, reason)
            return
        revoked = self._grant_of[token] in self._revoked
        verdict = key, reason, account.disabled_at
        if verdict in self._verdicts:  # an editor's old copy was mended; a token that came by force since is in there
            return
        self._verdicts.add(verdict)
        self._check_storm(key)
        cursed = token in self._cursed_tokens
        assert cursed or not self.provider.is_current(token), f"{key} was healthy, and is disabled: {reason}"
        if self._grant_of[token] in self._excused or token in self._erased:
            return  # who did not know that it was spent presented it, and has nothing to say but what it heard
        assert self._told_dead[token] > 1, f"{key} is disabled, and nobody confirmed it: {reason}"
        if not cursed and (not revoked or token in self._successors):
            assert reason.startswith("rotation_lost:"), f"we lost {key}, and say {reason}"
        if token not in self._unclear:
            assert reason.startswith("invalid_grant"), f"nothing of {key} was lost, and we say {reason}"

    def _check_restored(self, key: AccountKey, token: str, reason: str) -> None:
        """Only what was exchanged, and written down so, may be held back for that, unless somebody insists."""
        assert token in self._successors, f"{key} holds what was never exchanged, and is held back: {reason}"
        assert fingerprint(token) in self._said, f"{key} is held back, and the trail says nothing of it: {reason}"
        assert token not in self._insisted, f"{key} was enabled by force, and is held back again: {reason}"

    def _check_storm(self, key: AccountKey) -> None:
        """So many accounts of one client may die between two of its successes, whoever judges them."""
        if key in self._pending_writes:
            self._pending_writes.discard(key)
            return
        died = self._died.setdefault(self._client_of(key.pool), set())
        died.add(key)
        assert len(died) < ACCOUNTS, f"a storm disables {sorted(died)}"

    def _check_arrived(self, token: str, process: CrashingProcess, key: AccountKey) -> None:
        """A refresh token that reached a process is on disk or in its memory, or something newer is."""
        account = self.stored(key) if key in self._edits else None
        held = account.token.refresh_token if account is not None else None
        superseded = held is None or self._grant_of[held] != self._grant_of[token] or token in self._successors
        if token in self._on_disk or superseded:
            del self._arrived[token]
        elif process.dead:
            self._unclear.add(held or "")
            del self._arrived[token]
        elif self._grant_of[token] in self._brought_back and not process.left_behind(key, held):
            del self._arrived[token]  # to this process what an editor saved looks like somebody's sign-in
        else:
            unwritten = process.unwritten(key)
            assert unwritten is not None, f"{key}: a refresh token that had arrived is lost"
            assert unwritten.token.refresh_token == token, f"{key}: a refresh token that had arrived is lost"

    def _posted(self, flying: Flying) -> None:
        token, key = flying.refresh_token, flying.key
        flight = flying.process.refresher._flights.get(key)
        again = flight is not None and self._asking.get(flight) == token  # its answer was lost
        if flight is not None:
            self._asking[flight] = token
        if token not in self._forced:
            self._check_intent(key, token)
            self._check_presented(flying, again=again)
        elif self.provider.rotate and token in self._successors:
            self._excused.add(self._grant_of[token])  # the operator was told what this may end in
        self._posted_at[id(flying)] = self.loop.time()
        self.air.append(flying)

    def _check_intent(self, key: AccountKey, token: str) -> None:
        account = self.stored(key)
        if account is None or account.token.refresh_token != token:
            return
        pending = account.pending_refresh
        if pending is None or pending.fingerprint != fingerprint(token):
            self._surprises.append(f"{key}: a POST without its intent on disk")
        elif pending.rejected_at is not None and not pending.unanswered:
            self._surprises.append(f"{key}: a confirmation without an intent of its own")

    def _check_presented(self, flying: Flying, *, again: bool) -> None:
        """No spent token is presented by who could know, and none by two at once."""
        token, process, grant = flying.refresh_token, flying.process, self._grant_of[flying.refresh_token]
        newer, mixed = self._successors.get(token), grant in self._brought_back
        holder, _ = self._arrived.get(newer or "", (None, None))
        if newer is not None and not again:
            if fingerprint(token) in self._reader.exchanged() | process.aware:
                self._surprises.append(f"{flying.key}: a spent token is presented, and the audit trail says so")
            elif fingerprint(token) == self._recorded(flying):
                self._surprises.append(f"{flying.key}: a spent token is presented, and a record says so")
            elif mixed and process.left_behind(flying.key, token):
                self._surprises.append(f"{flying.key}: a spent token is presented by who saw it replaced")
            elif mixed:
                self._excused.add(grant)
            elif newer in self._on_disk or (holder is not None and not holder.dead):
                self._surprises.append(f"{flying.key}: a spent token is presented, and a newer one is there")
        rivals = [f for f in self.air if f.refresh_token == token and not (f.landed.done() or f.process.dead)]
        put_back = bool(rivals) and not self._put_presenting.isdisjoint({flying.key, rivals[0].key})
        gone = bool(rivals) and not self._still_holds(rivals[0])
        if rivals and mixed and (put_back or gone or self._is_another(rivals[0])):
            self._excused.add(grant)
        elif rivals:
            self._surprises.append(f"{flying.key}: presented by two at once")

    def _recorded(self, flying: Flying) -> str | None:
        """What the record of another account, who exchanged that token, says of it, where a trail should say so too.

        A copy of that record under a third name says the same; but by the trail the token may be somebody else's.
        """
        key = self._exchanged_by.get(flying.refresh_token)
        other = self.stored(key) if key in self._edits and key not in (None, flying.key) else None
        return other.replaced if other is not None and trail_content(self.home) else None

    def _is_another(self, flying: Flying) -> bool:
        """Whether the account for which it is presented was removed since, and another is under its name by now."""
        return self._anew_at.get(flying.key, -1.0) >= self._posted_at[id(flying)]

    def _still_holds(self, flying: Flying) -> bool:
        """Whether the account has the token yet that is presented for it: a re-add lets a copy's be its own."""
        return _token_of(self.stored(flying.key)) == flying.refresh_token

    # --- the end ----------------------------------------------------------------------------------------------

    def calm_down(self) -> None:
        """Let all faults end, everything land, and whoever crashed start anew."""
        self.disk.trouble = None
        self.cursed.clear()
        for number, process in enumerate(self.processes):
            process.files.step = None
            if process.dead:
                self.start(number, gateway=process.gateway)
        for _ in range(100):
            if not self.air and not any(process.busy for process in self.processes):
                return
            while self.air:
                self.land(self.air[0], "answer")
                self.check()  # who is disabled counts in the order in which that happened
            self.run(seconds=2.0)
            self.check()
        raise AssertionError("with all faults over, somebody is still busy")

    def refresh_everything(self) -> None:
        """Every account whose grant is alive refreshes, in every process; of copies one does."""
        for process in self.processes:
            self.run(process.load())
            for key in self.known_keys():
                before = self.stored(key)
                assert before is not None
                alive = self.provider.is_current(before.token.refresh_token or "")
                sharing = [k for k in self.known_keys() if _token_of(self.stored(k)) == before.token.refresh_token]
                if MOVED_FROM in before.extra:  # while that is cut off the account goes on at the old address
                    sharing += {AccountKey.parse(before.extra[MOVED_FROM])} & self._edits.keys()
                outcomes = [self._refresh_now(process, each) for each in (sharing if alive else [key])]
                if alive and not before.disabled:
                    done = [outcome for outcome in outcomes if isinstance(outcome, Ready)]
                    assert done, f"{key} is healthy, and does not refresh: {outcomes}"

    def _refresh_now(self, process: CrashingProcess, key: AccountKey) -> Outcome | None:
        caller = self.take_off(process, key, force=True)
        self.calm_down()
        self.check()
        assert caller is None or caller.done()
        return None if caller is None else caller.result()

    def end(self) -> None:
        """See that everything is well once all faults are over, and close."""
        try:
            self.calm_down()
            self.check()
            self.refresh_everything()
        finally:
            self.close()

    def close(self) -> None:
        for process in self.processes:
            self.run(process.aclose(), seconds=0)
        self.loop.close()
        shutil.rmtree(self.home)

    def _answer(self, flying: Flying, fate: Fate) -> tuple[Answer, str | None]:
        """What the process gets to hear, and the refresh token that the provider gave."""
        if not reaches_the_provider(fate):
            return what_arrives(fate, None), None
        if flying.form["client_id"] in self.cursed:
            self._cursed_tokens.add(flying.refresh_token)
            return what_arrives(fate, Reply(status=400, body=b'{"error": "invalid_grant"}')), None
        answer = self.provider(0, dict(flying.form))
        assert isinstance(answer, JSON)
        given = answer.body["refresh_token"] if answer.status == 200 and isinstance(answer.body, dict) else None
        if given is not None:
            self._note_rotation(flying.refresh_token, given)
            self._exchanged_by[flying.refresh_token] = flying.key
        return what_arrives(fate, Reply(status=answer.status, body=json.dumps(answer.body).encode())), given

    def _note_rotation(self, spent: str, fresh: str) -> None:
        self._grant_of[fresh] = self._grant_of[spent]
        if fresh != spent:
            self._successors[spent] = fresh
            self._forced.discard(spent)
            self._insisted.discard(spent)

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), Crash):
            self._surprises.append(str(context))


def _token_of(account: Account | None) -> str | None:
    return None if account is None else account.token.refresh_token


def _says_that_an_answer_was_lost(account: Account) -> bool:
    return account.pending_refresh is not None or (account.disabled_reason or "").startswith(ROTATION_LOST)


def key_of(name: str) -> AccountKey:
    """Which account of that name there is."""
    return AccountKey.of({"dave": "twin", "erin": "other", "frank": "other"}.get(name, "pool"), name)


def _own(extra: Mapping[str, Any]) -> dict[str, Any]:
    """What the operator wrote, without the note of a move that was cut off."""
    return {key: value for key, value in extra.items() if key != MOVED_FROM}


def pool_config(**settings: Any) -> PoolConfig:
    """A pool of refresh tokens at ``https://provider.test/token``."""
    return PoolConfig(
        **{
            "name": "pool",
            "hosts": (HostPattern.parse("api.test"),),
            "token_url": "https://provider.test/token",
            "client": ClientConfig(client_id="client", client_secret="client-secret", client_auth="client_secret_post"),
            **settings,
        }
    )

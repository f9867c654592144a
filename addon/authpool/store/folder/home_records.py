"""What a folder's store keeps beside the accounts: clients, the audit trail, requests for a reload."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from authpool.clients.client import ClientEntry, GatewayClient
from authpool.clients.usage import Usage
from authpool.files.atomic_file import FileOperations
from authpool.files.blocking import in_loop
from authpool.files.kernel_lock import Run
from authpool.store import ClientChange, GatewayClientChange
from authpool.store.audit import Entry
from authpool.store.client_record import ClientRecord
from authpool.store.folder.client_folder import ClientFolder
from authpool.store.folder.gateway_client_folder import GatewayClientFolder
from authpool.store.folder.reload_marker import ask_for_reload, last_forced, last_request
from authpool.store.folder.trail_files import TrailFiles
from authpool.store.folder.trail_witness import TrailWitness
from authpool.store.folder.turns import Turns

_GATEWAY_CLIENTS = "clients of the gateway"


class HomeRecords:
    """The part of `authpool.store.Store` that is about no account. `folder` is that of the accounts, in a home."""

    def __init__(self, folder: Path, run: Run, files: FileOperations, witness: TrailWitness | None) -> None:
        self._folder = folder
        self._home = folder.parent
        self._run = run
        self._files = files
        self._turns = Turns(run)
        self._clients = ClientFolder(folder, files)
        self._gateway_clients = GatewayClientFolder(self._home, files)
        self._trail = TrailFiles(self._home)
        self._witness = witness

    async def read_client(self, client: str) -> ClientRecord | None:
        record: ClientRecord | None = await self._run(self._clients.read, client)
        return record

    async def clients(self) -> Mapping[str, ClientRecord]:
        records: Mapping[str, ClientRecord] = await self._run(self._clients.read_all)
        return records

    async def update_client(self, client: str, change: ClientChange) -> ClientRecord:
        work = partial(self._clients.update, client, in_loop(change))
        stored: ClientRecord = await self._turns.take(self._clients.path.name, self._clients.path, work)
        return stored

    async def gateway_clients(self) -> Mapping[str, ClientEntry]:
        entries: Mapping[str, ClientEntry] = await self._run(self._gateway_clients.read_all)
        return entries

    async def update_gateway_client(
        self, client: str, change: GatewayClientChange, *, replace_broken: bool = False
    ) -> GatewayClient | None:
        work = partial(self._gateway_clients.update, client, in_loop(change), replace_broken=replace_broken)
        stored: GatewayClient | None = await self._turns.take(
            "clients of the gateway", self._gateway_clients.path, work
        )
        return stored

    async def count_usage(self, counts: Mapping[str, Usage]) -> None:
        work = partial(self._gateway_clients.count_usage, counts)
        await self._turns.take(_GATEWAY_CLIENTS, self._gateway_clients.path, work)

    async def gateway_usage(self) -> Mapping[str, Usage]:
        usage: Mapping[str, Usage] = await self._run(self._gateway_clients.usage)
        return usage

    def append(self, entry: Entry) -> None:
        self._trail.append(entry)
        if self._witness is not None:
            self._witness.append(entry)

    async def entries(self, newest: int | None = None) -> list[Entry]:
        entries: list[Entry] = await self._run(self._trail.newest, newest)
        return entries

    async def entries_since(self, position: object) -> tuple[list[Entry], object]:
        told: tuple[list[Entry], object]
        if position is None and self._witness is not None:
            told = await self._run(self._trail.completed, self._witness.complete)
        else:
            told = await self._run(self._trail.since, position)
        return told

    async def request_reload(self) -> int:
        number: int = await self._run(ask_for_reload, self._home)
        return number

    async def force_reload(self) -> int:
        number: int = await self._run(ask_for_reload, self._home, forced=True)
        return number

    async def forced_reload(self) -> int:
        number: int = await self._run(last_forced, self._home)
        return number

    async def reload_request(self) -> int:
        number: int = await self._run(last_request, self._home)
        return number

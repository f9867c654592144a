"""``authpool client``: gateway keys on the command line. A key is printed once, alone on standard output."""

import dataclasses
import json
import re

import click

from authpool.cli.session import Session, failures_told, json_option, table, tell
from authpool.cli.streams import answer, as_text
from authpool.errors import RefusedError
from authpool.verbs.client_table import HEADER, client_cells
from authpool.verbs.gateway_clients import Issued, Terms

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")
LONGEST_SECONDS = 100 * 365 * 86_400
OVERLAP = "1h"


class Duration(click.ParamType[float]):
    """A span of time as people write it: ``90s``, ``15m``, ``1h``, ``30d``, ``2w``; ``0`` for none."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """In seconds."""
        if value == "0":
            return 0.0
        match = _DURATION.fullmatch(str(value))
        seconds = 0 if match is None else int(match[1]) * _UNITS[match[2]]
        if match is None or seconds > LONGEST_SECONDS:
            self.fail("is no time such as 90s, 15m, 1h, 30d or 2w", param, ctx)
        return float(seconds)


_name_argument = click.argument("name", callback=as_text)


@click.group()
def client() -> None:
    """Who may use the gateway: clients, and their keys."""


@client.command()
@_name_argument
@click.option("--pool", "pools", multiple=True, metavar="P", help="A pool it may use. Default: every pool.")
@click.option("--host", "hosts", multiple=True, metavar="H", help="A host it may reach. Default: every host.")
@click.option("--expires", type=Duration(), metavar="TIME", help="How long its keys live, such as 30d.")
@click.option("--for-run", type=Duration(), metavar="TIME", help="A key for one job, such as 1h; cleared away later.")
@click.option("--max-in-flight", type=click.IntRange(min=1), metavar="N", help="Requests under way at a time.")
@click.option(
    "--requests-per-second", type=click.FloatRange(min=0.001, max=1e6), metavar="N", help="Requests a second."
)
@json_option
@click.pass_obj
def add(
    session: Session,
    name: str,
    pools: tuple[str, ...],
    hosts: tuple[str, ...],
    expires: float | None,
    for_run: float | None,
    max_in_flight: int | None,
    requests_per_second: float | None,
    as_json: bool,  # noqa: FBT001 - click passes it by name
) -> None:
    """Add a client NAME and print its key, once: only a hash of it is kept.

    With pools and hosts it reaches those pools at those hosts, and nothing else.
    """
    with failures_told(as_json=as_json):
        if expires is not None and for_run is not None:
            raise RefusedError("--expires and --for-run say the same: give one of them")
        lifetime = expires if for_run is None else for_run
        if lifetime == 0:
            raise RefusedError("a key has to live for some time")
        terms = Terms(
            pools=pools,
            hosts=hosts,
            expires_seconds=lifetime,
            for_run=for_run is not None,
            max_in_flight=max_in_flight,
            requests_per_second=requests_per_second,
        )
        _show(session.run(lambda operations: operations.clients.add(name, terms)), as_json=as_json)


@client.command("list")
@json_option
@click.pass_obj
def list_(session: Session, as_json: bool) -> None:  # noqa: FBT001
    """Show every client: what it may, and what it has used, by all its keys and gateways."""
    with failures_told(as_json=as_json):
        rows = session.run(lambda operations: operations.clients.rows())
        if as_json:
            answer(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        elif not rows:
            answer("No clients yet; add one with: authpool client add NAME")
        else:
            answer(table(HEADER, [client_cells(row) for row in rows]))


@client.command()
@_name_argument
@click.option(
    "--overlap", type=Duration(), metavar="TIME", help=f"How long the key before it lives. Default: {OVERLAP}."
)
@click.option("--leaked", is_flag=True, help="End every key before it at once, and cut off what is under way.")
@click.option("--expires", type=Duration(), metavar="TIME", help="Let the client live so long from now on.")
@json_option
@click.pass_obj
def rotate(
    session: Session,
    name: str,
    overlap: float | None,
    leaked: bool,  # noqa: FBT001
    expires: float | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Print another key for the client NAME. Its scopes, limits and usage stay, and so does its end."""
    with failures_told(as_json=as_json):
        if leaked and overlap:
            raise RefusedError("with --leaked there is no overlap")
        if expires == 0:
            raise RefusedError("a key has to live for some time")
        seconds = Duration().convert(OVERLAP, None, None) if overlap is None else overlap
        issued = session.run(
            lambda operations: operations.clients.rotate(
                name, overlap_seconds=seconds, leaked=leaked, expires_seconds=expires
            )
        )
        _show(issued, as_json=as_json)


@client.command()
@_name_argument
@json_option
@click.pass_obj
def remove(session: Session, name: str, as_json: bool) -> None:  # noqa: FBT001
    """Remove the client NAME: its keys are no good any more, and what it has under way is cut off."""
    with failures_told(as_json=as_json):
        tell(session.run(lambda operations: operations.clients.remove(name)), as_json=as_json)


def _show(issued: Issued, *, as_json: bool) -> None:
    if as_json:
        more = {"client": issued.client, "key": issued.key, "expires_at": issued.expires_at}
        tell(issued.message, as_json=True, more=more)
        return
    answer(issued.key)
    click.echo(issued.message, err=True)

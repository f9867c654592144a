"""``[[pools.NAME.answers]]``: what an upstream's answers mean, for APIs that say it in their own way."""

from dataclasses import dataclass
from typing import Literal, cast, get_args

from authpool.config.config_table import ConfigTable, KeyPath, mistake

type Meaning = Literal["ok", "bad_token", "cooldown", "forbidden"]
"""What an upstream's answer says of the account it was asked with.

`ok`: nothing against it. `bad_token`: this token string is bad; refresh the account. `cooldown`: pause the account.
`forbidden`: the account may not do this; another may. All but `ok` let the request go on with another account.
"""

MEANINGS = get_args(Meaning.__value__)
_STATUS_REMEDY = 'Write it as `status = 403`, `status = [403, 404]` or `status = "5xx"`.'


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRule:
    """One rule: everything it names must fit. `values`: what the header or the JSON field must be; None: be there."""

    means: Meaning
    statuses: frozenset[int] = frozenset()
    header: str | None = None
    json: tuple[str, ...] = ()
    """The way to a field in a JSON body; a whole number counts in an array."""
    values: frozenset[str] | None = None


def read_answer_rules(table: ConfigTable) -> tuple[AnswerRule, ...]:
    """Read the array `answers` of a pool's table."""
    documents: list[object] = table.take("answers", list, [])
    return tuple(_rule(document, table.item("answers", index)) for index, document in enumerate(documents))


def _rule(document: object, path: KeyPath) -> AnswerRule:
    table = ConfigTable(document, path, ("status", "header", "json", "equals", "means"))
    if "means" not in table:
        raise mistake(table.at("means"), "is missing.", f"Write one of {', '.join(MEANINGS)}.")
    means = cast("Meaning", table.take_choice("means", MEANINGS, ""))
    header, json = table.take_string("header"), table.take_string("json")
    if "status" not in table and header is None and json is None:
        raise mistake(path, "fits every answer.", "Say which it means, by `status`, `header` or `json`.")
    if header is not None and json is not None:
        raise mistake(table.at("json"), "stands beside `header`.", "Write two rules, one for each.")
    if "equals" in table and header is None and json is None:
        raise mistake(table.at("equals"), "has nothing to compare.", "Say what with, by `header` or `json`.")
    return AnswerRule(
        means=means,
        statuses=_statuses(table),
        header=None if header is None else header.lower(),
        json=() if json is None else tuple(json.split(".")),
        values=_values(table),
    )


def _statuses(table: ConfigTable) -> frozenset[int]:
    match table.kind_of("status"):
        case None:
            return frozenset()
        case kind if kind is int:
            found: list[object] = [table.take("status", int, 0)]
        case kind if kind is list:
            found = table.take("status", list, [])
        case _:
            found = [table.take("status", str, "")]
    return frozenset().union(*(_of_status(one, table.at("status")) for one in found))


def _of_status(status: object, path: KeyPath) -> frozenset[int]:
    match status:
        case int() if type(status) is int and 100 <= status <= 599:
            return frozenset({status})
        case "1xx" | "2xx" | "3xx" | "4xx" | "5xx":
            first = int(status[0]) * 100
            return frozenset(range(first, first + 100))
    raise mistake(path, "is not an HTTP status.", _STATUS_REMEDY)


def _values(table: ConfigTable) -> frozenset[str] | None:
    match table.kind_of("equals"):
        case None:
            return None
        case kind if kind is list:
            return frozenset(table.take_strings("equals"))
        case kind if kind in {int, bool}:
            return frozenset({str(table.take("equals", cast("type[object]", kind), "")).lower()})
        case _:
            return frozenset({table.take("equals", str, "")})

"""The files that a PATH of `authpool import` stands for, and the accounts in them."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from authpool.errors import RefusedError
from authpool.files.atomic_file import read_private
from authpool.verbs.import_formats.entry import Found, ImportEntry, Unreadable
from authpool.verbs.import_formats.texts import parsed, text_entries

MOST_BYTES = 64 << 20
"""No list of accounts is longer: ten thousand take one or two megabytes."""
_SUFFIXES = frozenset({"", ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt"})
_INDEX, _ACCOUNTS = "accounts.json", "accounts"

type Opener = Callable[[str], str]
"""Opens a text that `authpool export` has sealed, and leaves any other as it is. Raises RefusedError."""


def path_entries(path: Path, opened: Opener = str) -> Iterator[Found]:
    """Read every account that a file or a folder holds, in the order of its list where it has one."""
    folder = _data_folder(path)
    if folder is not None:
        yield from _data_folder_entries(folder)
    elif path.is_dir():
        yield from _folder_entries(path)
    else:
        yield from _file_entries(path, opened)


def _data_folder(path: Path) -> Path | None:
    """The folder in which Antigravity Manager keeps its data, where PATH is that, or its list."""
    folder = path.parent if path.name == _INDEX and path.is_file() else path
    return folder if (folder / _ACCOUNTS).is_dir() and (folder / _INDEX).exists() else None


def _data_folder_entries(folder: Path) -> Iterator[Found]:
    """The account files decide; the list, which may be damaged or missing, tells only their order."""
    order = _order(folder / _INDEX)
    names = {path.stem: path for path in _files(folder / _ACCOUNTS)}
    for one in order:
        if one not in names:
            yield Unreadable(
                where=f"{folder / _ACCOUNTS / one}.json", problem="it is listed, and there is no such file"
            )
    place = {one: number for number, one in enumerate(order)}
    for stem in sorted(names, key=lambda one: (place.get(one, len(place)), one)):
        for found in _file_entries(names[stem], str):
            if isinstance(found, ImportEntry) and stem in place:
                yield replace(found, credential=replace(found.credential, order=place[stem]))
            else:
                yield found


def _order(index: Path) -> list[str]:
    try:
        text = _text(index)
    except RefusedError:
        return []
    document: Any = parsed(text.replace("\x00", "").removeprefix("\ufeff").strip())
    listed = document.get("accounts") if isinstance(document, dict) else None
    ids = [one.get("id") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return list(dict.fromkeys(one for one in ids if isinstance(one, str) and one and os.sep not in one))


def _folder_entries(folder: Path) -> Iterator[Found]:
    """Every file of a folder that may be one; what else lies there is left alone."""
    try:
        files = _files(folder)
    except OSError as error:
        yield Unreadable(where=str(folder), problem=f"it can't be read: {error.strerror}")
        return
    for path in files:
        yield from _file_entries(path, str)


def _files(folder: Path) -> list[Path]:
    paths = sorted(folder.iterdir())
    return [path for path in paths if path.name[0] != "." and path.suffix.casefold() in _SUFFIXES and path.is_file()]


def _file_entries(path: Path, opened: Opener) -> Iterator[Found]:
    try:
        text = opened(_text(path))
    except RefusedError as refused:
        yield Unreadable(where=str(path), problem=str(refused).removeprefix(str(path)).strip())
        return
    yield from text_entries(text, str(path), path)


def _text(path: Path) -> str:
    """Read a file that nobody else can read. Raises RefusedError."""
    try:
        return read_private(path, most=MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RefusedError("is not UTF-8 text") from None
    except OSError as error:
        raise RefusedError(f"can't be read: {error.strerror}") from None

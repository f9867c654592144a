"""`authpool init`: a home to start from. Adds what is missing, and overwrites nothing."""

import os
from dataclasses import dataclass
from pathlib import Path

from authpool.config import CONFIG_NAME
from authpool.errors import RefusedError
from authpool.files.atomic_file import FileOperations, replace_file
from authpool.files.home import check_home, secure_folder
from authpool.files.strict_modes import check_way, trusted_users

LOADER_NAME = "addon"
LOADER = Path(__file__).parents[1] / "proxy" / "script" / "gateway.py"
"""The script that mitmproxy loads; the home gets a copy of its few lines."""
FOLDERS = ("accounts", "clients", "plugins")

CONFIG_TEMPLATE = """\
# authpool.toml: which accounts serve which hosts. Written by you, never by the program.
#
# There is no pool yet, so nothing gets a credential. To begin, take the "# " off one of the examples below,
# fill in the id of the client that you registered at the provider, then:
#
#     authpool add google @token.json       (the token response of a sign-in, or a bare refresh token; mode 0600)
#     cd {home} && mitmdump -s addon
#
# A running gateway reads this file again within a second of a change; if it has a mistake, the log names it
# and the configuration before it stays in force. `authpool reload` tells what came of it.

# [pools.google]
# preset = "google"                            # also: microsoft, github_app, gitlab, okta, auth0, slack,
#                                              # salesforce
# client_id = "YOUR-CLIENT-ID"
# client_secret = "env:GOOGLE_CLIENT_SECRET"   # env:NAME, file:PATH, or the value itself
# scopes = ["openid", "email"]                 # with these the provider tells whose account it is
# hosts = ["generativelanguage.googleapis.com", "*.aiplatform.googleapis.com"]

# [pools.company]
# issuer = "https://accounts.example.com"      # or token_url, userinfo_url, ... one by one
# client_id = "YOUR-CLIENT-ID"
# hosts = ["api.example.com"]                  # a port if it is not the scheme's own: "127.0.0.1:9000"
# paths = ["/v1/*"]                            # optional narrowing
# methods = ["GET", "POST"]                    # likewise
# stream_types = ["text/plain"]                # answers that go on as they come, beside event streams and the like

# [pools.service]
# type = "client_credentials"                  # service identities: each account is a client of its own
# token_url = "https://auth.example.com/token"
# client_id = "YOUR-CLIENT-ID"
# client_secret = "file:service.secret"
# hosts = ["internal.example.com"]

# [pools.keys]
# type = "static"                              # fixed API keys, nothing is refreshed
# hosts = ["api.example.net"]
# inject = {{ header = "x-api-key", value = "{{token}}" }}

[gateway]
# client_keys = "auto"     # who needs a gateway key (authpool client add): auto | required | off
# max_accounts = 3         # accounts one request may be tried on
# seal_key = "env:NAME"    # seals the accounts' secrets at rest: env:NAME, file:PATH or keyring:NAME names the key
# fast_dispatch = true     # skip addons without the hook at hand: mitmproxy itself gets faster
# health_path = "/authpool/health"    # in reverse mode, /live and /ready beneath; as a proxy it is
#                                     # http://authpool.internal/health, or /health on the proxy's own port
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A part of the home, and whether it was created now or kept as it was."""

    path: Path
    created: bool


def create_home(home: Path, *, files: FileOperations | None = None) -> list[Item]:
    """Create what is missing. Raises RefusedError, naming what stands in the way and what to do."""
    files = files or FileOperations()
    check_way(home, trusted_users(home))  # as far as it goes
    items = [_folder(home), *(_folder(home / name, inside=True) for name in FOLDERS)]
    items.append(_file(files, home / CONFIG_NAME, _config_text(home)))
    items.append(_file(files, home / LOADER_NAME, LOADER.read_bytes()))
    check_home(home)
    return items


def _config_text(home: Path) -> bytes:
    # A folder's name may be no text; it stands in a comment.
    return CONFIG_TEMPLATE.format(home=home).encode(errors="backslashreplace")


def _folder(path: Path, *, inside: bool = False) -> Item:
    created = not path.exists()
    secure_folder(path, inside=inside)
    return Item(path=path, created=created)


def _file(files: FileOperations, path: Path, content: bytes) -> Item:
    if os.path.lexists(path):
        return Item(path=path, created=False)

    def check() -> None:
        if os.path.lexists(path):
            raise FileExistsError

    try:
        replace_file(files, path, content, check)
    except FileExistsError:
        return Item(path=path, created=False)
    except OSError as error:
        raise RefusedError(f"{path} can't be written: {error.strerror}") from error
    return Item(path=path, created=True)

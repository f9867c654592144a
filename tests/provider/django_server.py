"""A real OAuth 2.0 provider for the tests: django-oauth-toolkit, on a loopback port of its own choice.

    python django_server.py '{"folder": ..., "accessTokenSeconds": 4, "graceSeconds": 30, "clientId": ..., ...}'

The first line on stdout is JSON: {"port": ...}. Like server.mjs it ends on SIGTERM or with its standard input. What it
answers is in django_app.py.
"""

import json
import os
import sys
import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application


class Server(ThreadingMixIn, WSGIServer):
    """One thread a connection, as a deployed provider has its workers."""

    daemon_threads = True
    request_queue_size = 128


class Handler(WSGIRequestHandler):
    """Says nothing of each request, and sends an answer's head in one piece."""

    wbufsize = -1

    def log_message(self, *args: object) -> None:
        pass


def configure(options: dict[str, object]) -> None:
    """Set Django up, with an empty database in a file."""
    settings.configure(
        SECRET_KEY="tests",
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF="django_app",
        USE_TZ=True,
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": f"{options['folder']}/provider.sqlite3",
                "OPTIONS": {
                    "timeout": 20,
                    "transaction_mode": "IMMEDIATE",  # else two writers that both read first end in "locked"
                    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;",
                },
            }
        },
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
        OAUTH2_PROVIDER={
            "ACCESS_TOKEN_EXPIRE_SECONDS": options["accessTokenSeconds"],
            "ROTATE_REFRESH_TOKEN": True,
            "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": options["graceSeconds"],
            "REFRESH_TOKEN_REUSE_PROTECTION": True,
        },
    )
    django.setup()
    call_command("migrate", verbosity=0)
    apps.get_model("oauth2_provider", "Application").objects.create(
        name="authpool",
        client_id=options["clientId"],
        client_secret=options["clientSecret"],
        hash_client_secret=False,  # a password's hash takes longer than all the rest of a refresh
        client_type="confidential",
        authorization_grant_type="authorization-code",
        redirect_uris="http://127.0.0.1/callback",
    )


def end_with_stdin() -> None:
    """Wait until whoever started this is gone, and go too."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    configure(json.loads(sys.argv[1]))
    threading.Thread(target=end_with_stdin, daemon=True).start()
    server = make_server("127.0.0.1", 0, get_wsgi_application(), Server, Handler)
    print(json.dumps({"port": server.server_port}), flush=True)
    server.serve_forever()

"""The keys that say who may reach what, and from where: what is accepted, and how a mistake is told."""

from pathlib import Path
from typing import Any

import pytest

from authpool.config import Config, load_config
from authpool.config.origin import canonical_origin
from authpool.errors import ConfigurationError
from support.home import make_home


def config(tmp_path: Path, gateway: dict[str, Any] | None = None, **pool: Any) -> Config:
    table = {"type": "static", "hosts": ["api.example.com"], **pool}
    return load_config(make_home(tmp_path, pools={"p": table}, gateway=gateway), {})


def test_nothing_is_said(tmp_path: Path) -> None:
    """No names, no rule for what no pool is for, no way into the own network, no pages."""
    read = config(tmp_path)
    gateway = read.gateway
    assert (gateway.listener_names, gateway.unmatched, gateway.allow_local) == ((), None, False)
    assert read.pools["p"].allowed_origins == frozenset()


def test_all_is_said(tmp_path: Path) -> None:
    """Names compare as DNS sees them, origins as browsers write them."""
    gateway = {"listener_names": ["Gateway.Example.", "*.svc.local"], "unmatched": "tunnel", "allow_local": True}
    read = config(tmp_path, gateway, allowed_origins=["HTTPS://App.Example:443", "http://[::1]:3000"])
    assert [str(name) for name in read.gateway.listener_names] == ["gateway.example", "*.svc.local"]
    assert (read.gateway.unmatched, read.gateway.allow_local) == ("tunnel", True)
    assert read.pools["p"].allowed_origins == {"https://app.example", "http://[::1]:3000"}


@pytest.mark.parametrize(
    ("gateway", "place"),
    (
        ({"listener_names": ["*"]}, "gateway.listener_names[0]"),
        ({"listener_names": ["a.example", "https://b.example"]}, "gateway.listener_names[1]"),
        ({"listener_names": ["a.example:8080"]}, "gateway.listener_names[0]"),
        ({"listener_names": "a.example"}, "gateway.listener_names"),
        ({"unmatched": "refuse"}, "gateway.unmatched"),
        ({"unmatched": True}, "gateway.unmatched"),
        ({"allow_local": "yes"}, "gateway.allow_local"),
    ),
)
def test_mistakes_in_the_gateways_table(tmp_path: Path, gateway: dict[str, Any], place: str) -> None:
    """File, key and remedy."""
    with pytest.raises(ConfigurationError) as refused:
        config(tmp_path, gateway)
    assert f"authpool.toml: {place}: " in str(refused.value)


@pytest.mark.parametrize(
    "origin",
    (
        *(
            "*",
            "null",
            "",
            "app.example",
            "https://",
            "https://app.example/",
            "https://app.example/x",
            "https://*.example",
        ),
        *("https://user@app.example", "https://app.example:", "https://app.example:x", "file://", "https://a b"),
    ),
)
def test_mistakes_in_origins(tmp_path: Path, origin: str) -> None:
    """What any page can have, and what no browser writes."""
    with pytest.raises(ConfigurationError) as refused:
        config(tmp_path, allowed_origins=["https://app.example", origin])
    assert "authpool.toml: pools.p.allowed_origins[1]: " in str(refused.value)


@pytest.mark.parametrize(
    ("text", "origin"),
    (
        ("http://a:80", "http://a"),
        ("http://a:443", "http://a:443"),
        ("https://a.", "https://a"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
        ("https://[::1]:443", "https://[::1]"),
        ("https://a\n", None),
        ("https://a https://b", None),
        ("null", None),
    ),
)
def test_origins_compare_in_one_form(text: str, origin: str | None) -> None:
    """Scheme, host and port, the port only where it is not the scheme's own."""
    assert canonical_origin(text) == origin

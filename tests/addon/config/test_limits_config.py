"""What a pool says of rate limits and answers in authpool.toml."""

from pathlib import Path

import pytest

from authpool.config import CONFIG_NAME, PoolConfig, load_config
from authpool.config.answer_rule import AnswerRule
from authpool.config.pool_config import QuotaReserve
from authpool.config.selector import Selector
from authpool.errors import ConfigurationError

POOL = '[pools.x]\ntype = "static"\nhosts = ["api.example.com"]\n'


def load(home: Path, lines: str) -> PoolConfig:
    path = home / CONFIG_NAME
    path.write_text(POOL + lines)
    path.chmod(0o600)
    return load_config(home, {}).pools["x"]


def test_what_is_not_said_has_its_default(tmp_path: Path) -> None:
    """One cooldown for an account, nobody waits, nothing is spared, answers mean what they usually do."""
    pool = load(tmp_path, "")
    assert pool.cooldown_by == Selector(kind="account")
    assert (pool.wait_seconds, pool.quota_reserve, pool.answers) == (0, None, ())
    assert (pool.rotation, pool.rotation_options) == ("round_robin", {})


@pytest.mark.parametrize(
    ("text", "selector"),
    (
        ("account", Selector(kind="account")),
        ("path", Selector(kind="path")),
        ("header:X-Model", Selector(kind="header", name="X-Model")),
        ("json:options.model", Selector(kind="json", name="options.model")),
    ),
)
def test_cooldowns_may_be_counted_apart(tmp_path: Path, text: str, selector: Selector) -> None:
    """By path, by a header, by a field of the JSON body."""
    assert load(tmp_path, f'cooldown_by = "{text}"').cooldown_by == selector


@pytest.mark.parametrize(
    ("text", "reserve"),
    (("50", QuotaReserve(requests=50)), ('"5%"', QuotaReserve(share=0.05)), ("0", None)),
)
def test_a_reserve_is_so_many_requests_or_a_share(tmp_path: Path, text: str, reserve: QuotaReserve | None) -> None:
    """Nothing is nothing."""
    assert load(tmp_path, f"quota_reserve = {text}").quota_reserve == reserve


def test_a_rotation_may_have_options(tmp_path: Path) -> None:
    """They are handed to the plugin as they are."""
    pool = load(tmp_path, 'rotation = { name = "weighted", weights = { alice = 3 } }')
    assert (pool.rotation, pool.rotation_options) == ("weighted", {"weights": {"alice": 3}})


def test_answers_are_read_in_their_order(tmp_path: Path) -> None:
    """Statuses alone, in a list and as a class; headers, fields, with values and without."""
    pool = load(
        tmp_path,
        """
        [[pools.x.answers]]
        status = 403
        header = "X-Reason"
        equals = "expired"
        means = "bad_token"
        [[pools.x.answers]]
        status = [409, "5xx"]
        json = "errors.0.code"
        equals = ["a", "b"]
        means = "cooldown"
        [[pools.x.answers]]
        json = "ok"
        equals = false
        means = "forbidden"
        """,
    )
    assert pool.answers == (
        AnswerRule(means="bad_token", statuses=frozenset({403}), header="x-reason", values=frozenset({"expired"})),
        AnswerRule(
            means="cooldown",
            statuses=frozenset({409, *range(500, 600)}),
            json=("errors", "0", "code"),
            values=frozenset({"a", "b"}),
        ),
        AnswerRule(means="forbidden", json=("ok",), values=frozenset({"false"})),
    )


@pytest.mark.parametrize(
    ("lines", "where", "said"),
    (
        ('cooldown_by = "model"', "pools.x.cooldown_by", 'is none of "account", "path"'),
        ('cooldown_by = "header"', "pools.x.cooldown_by", 'is none of "account", "path"'),
        ('cooldown_by = "path:x"', "pools.x.cooldown_by", 'is none of "account", "path"'),
        ("wait_seconds = 301", "pools.x.wait_seconds", "out of range"),
        ('quota_reserve = "5"', "pools.x.quota_reserve", "neither a number of requests nor a share"),
        ('quota_reserve = "100%"', "pools.x.quota_reserve", "neither a number of requests nor a share"),
        ("quota_reserve = -1", "pools.x.quota_reserve", "out of range"),
        ('rotation = { by = "x" }', "pools.x.rotation.name", "is missing"),
        ('answers = [{ means = "ok" }]', "pools.x.answers[0]", "fits every answer"),
        ("answers = [{ status = 403 }]", "pools.x.answers[0].means", "is missing"),
        ('answers = [{ status = 403, means = "dead" }]', "pools.x.answers[0].means", "is none of"),
        ('answers = [{ status = 4030, means = "ok" }]', "pools.x.answers[0].status", "is not an HTTP status"),
        ('answers = [{ status = ["6xx"], means = "ok" }]', "pools.x.answers[0].status", "is not an HTTP status"),
        ('answers = [{ status = true, means = "ok" }]', "pools.x.answers[0].status", "must be"),
        ('answers = [{ status = 403, equals = "x", means = "ok" }]', "pools.x.answers[0].equals", "nothing to compare"),
        ('answers = [{ header = "a", json = "b", means = "ok" }]', "pools.x.answers[0].json", "beside `header`"),
        ('answers = [{ status = 403, body = "b", means = "ok" }]', "pools.x.answers[0].body", "there is no such key"),
        ("answers = [403]", "pools.x.answers[0]", "must be"),
    ),
)
def test_a_mistake_names_the_key_and_the_remedy(tmp_path: Path, lines: str, where: str, said: str) -> None:
    """As everywhere in the file."""
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, lines)
    assert f"authpool.toml: {where}" in str(caught.value)
    assert said in str(caught.value)

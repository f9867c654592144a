"""boto3 through the gateway to moto, which checks signatures as AWS does (by botocore), and policies after a fashion.

moto is no AWS: it reckons the signature of what it received with the secret key that it gave out, and knows of no
clock that is off, no unsigned bodies and no sessions that end. What AWS's own suite says is in
`test_authpool_aws_signature`.
"""

import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.command_line import authpool_on
from support.home import make_home
from support.pool_rig import gateway_master
from support.ports import free_port

pytestmark = [
    pytest.mark.mitmproxy,
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("boto3", "moto", "flask_cors")),
        reason="moto is not installed (of the extra `dev`)",
    ),
]

ALLOWED = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*", "sts:*"], "Resource": "*"}]}
TRUSTED = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}
SET_UP = 5
"""So many actions are not checked: those that make the user and the role."""
KEYS = ("plain", "a b/c+d=e&f", "ü/~'(x)*.txt", "a//b", "100%/%41", "./dots/../too")


@dataclass(frozen=True, kw_only=True)
class Moto:
    """A running moto, with a user whose key pair it knows, and a role that the user may assume."""

    url: str
    pair: dict[str, str]
    account: str


def clients_of(url: str, service: str, **keys: str) -> Any:
    """A client of AWS's SDK; a key pair of nobody's where none is given."""
    boto3: Any = pytest.importorskip("boto3")
    config: Any = pytest.importorskip("botocore.config")
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=keys.get("AccessKeyId", "AKIADUMMY"),
        aws_secret_access_key=keys.get("SecretAccessKey", "dummy"),
        config=config.Config(retries={"max_attempts": 0}, proxies={}, s3={"addressing_style": "path"}),
    )


def set_up(url: str) -> tuple[dict[str, str], str]:
    iam = clients_of(url, "iam")
    iam.create_user(UserName="ci")
    pair = iam.create_access_key(UserName="ci")["AccessKey"]
    iam.put_user_policy(UserName="ci", PolicyName="p", PolicyDocument=json.dumps(ALLOWED))
    role = iam.create_role(RoleName="CI", AssumeRolePolicyDocument=json.dumps(TRUSTED))["Role"]
    iam.put_role_policy(RoleName="CI", PolicyName="p", PolicyDocument=json.dumps(ALLOWED))
    return {name: pair[name] for name in ("AccessKeyId", "SecretAccessKey")}, role["Arn"].split(":")[4]


@asynccontextmanager
async def running_moto() -> AsyncIterator[Moto]:
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)),
        env={**kept, "INITIAL_NO_AUTH_ACTION_COUNT": str(SET_UP)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60):
            while not await _listens(port):
                await asyncio.sleep(0.05)
        url = f"http://127.0.0.1:{port}"
        pair, account = await asyncio.to_thread(set_up, url)
        yield Moto(url=url, pair=pair, account=account)
    finally:
        process.kill()
        await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


def use_s3(url: str) -> list[str]:
    """Use S3 as programs do; what was read back."""
    s3 = clients_of(url, "s3")
    s3.create_bucket(Bucket="bucket")
    read = []
    for key in KEYS:
        s3.put_object(Bucket="bucket", Key=key, Body=key.encode(), Metadata={"name": "two  words"})
        read.append(s3.get_object(Bucket="bucket", Key=key)["Body"].read().decode())
    listed = s3.list_objects_v2(Bucket="bucket", Prefix="a b/c+d=e&f", MaxKeys=5, StartAfter="a !")
    assert [entry["Key"] for entry in listed["Contents"]] == ["a b/c+d=e&f"]
    upload = s3.create_multipart_upload(Bucket="bucket", Key="parts")["UploadId"]
    part = s3.upload_part(Bucket="bucket", Key="parts", UploadId=upload, PartNumber=1, Body=b"x" * 70_000)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket="bucket", Key="parts", UploadId=upload, MultipartUpload=parts)
    assert s3.head_object(Bucket="bucket", Key="parts")["ContentLength"] == 70_000
    return read


@asynccontextmanager
async def gateway_to(moto: Moto, folder: Path, **options: str) -> AsyncIterator[str]:
    """A gateway in front of moto, with an account that was added from the key pair as it was printed."""
    kind = {"name": "aws_sigv4", "service": "s3", "region": "us-east-1", **options}
    home = make_home(folder, pools={"aws": {"type": kind, "hosts": [moto.url.removeprefix("http://")]}})
    added = await authpool_on(home, "add", "aws", "-", moto.account, stdin=json.dumps({"AccessKey": moto.pair}))
    assert (added.status, added.err) == (0, "")
    async with gateway_master(home, mode=f"reverse:{moto.url}") as gateway:
        yield gateway.url


async def test_a_key_pair_signs_what_boto3_asks(tmp_path: Path) -> None:
    """With keys of any form; boto3's own key pair is nobody's, and moto would refuse it."""
    async with running_moto() as moto:
        refused = await asyncio.to_thread(_failure_of, moto.url)
        async with gateway_to(moto, tmp_path) as url:
            read = await asyncio.to_thread(use_s3, url)
    assert refused == "InvalidAccessKeyId"
    assert read == list(KEYS)


def _failure_of(url: str) -> str:
    errors: Any = pytest.importorskip("botocore.exceptions")
    try:
        clients_of(url, "s3").list_buckets()
    except errors.ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


async def test_an_assumed_role_signs_it(tmp_path: Path) -> None:
    """The STS of moto takes our signature, and its S3 the role's."""
    async with running_moto() as moto:
        role = "arn:aws:iam::{account}:role/CI"
        async with gateway_to(moto, tmp_path, role_arn=role, sts_url=f"{moto.url}/") as url:
            read = await asyncio.to_thread(use_s3, url)
    assert read == list(KEYS)

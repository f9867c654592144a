"""The story itself: each step does something real, says it in a line or two, and fails when it did not happen."""

import json
import os
import textwrap
import time
import tomllib
from collections import Counter
from collections.abc import Iterable
from typing import Any

from authpool.demo.api import served_user
from authpool.demo.failure import expect
from authpool.demo.narrator import INDENT, WIDTH, Narrator
from authpool.demo.plain_http import fetch
from authpool.demo.stage import POOL, Stage
from authpool.pool.report import timestamp

ALICE = "alice@example.com"
BOB = "bob@example.com"

_RETURN_SECONDS = 10.0


class Story:
    """Told once, on a stage that is fresh."""

    def __init__(self, stage: Stage, narrator: Narrator) -> None:
        self._stage = stage
        self._narrator = narrator
        self._secrets: set[str] = set()

    def tell(self) -> None:
        """Raises DemoFailedError at the first step that does not do what it says, and StopRequestedError."""
        for step in (
            self._start,
            self._add,
            self._send,
            self._revoke,
            self._fail_over,
            self._show_verdict,
            self._sign_in_again,
            self._return,
            self._show_flow,
        ):
            self._stage.stop.check()
            step()

    # --- the steps --------------------------------------------------------------------------------------------

    def _start(self) -> None:
        stage = self._stage
        self._narrator.step("Start", "An OAuth provider, an API that wants its tokens, and the gateway before it.")
        stage.gateway.wait_until_it_listens()
        self._narrator.pairs(
            {
                "provider": f"{stage.provider.issuer}  ({stage.provider.title})",
                "API": stage.api.url,
                "gateway": f"{stage.gateway.url}  (mitmweb with authpool, in front of the API)",
            }
        )
        status = fetch(stage.api.url).status
        expect(status == 401, f"the API answered HTTP {status} to a request without a token, and not 401")
        self._narrator.say("The API answers 401 to whoever has no token.")

    def _add(self) -> None:
        self._narrator.step(
            "Add accounts",
            "Alice and Bob sign in at the provider. Her tokens come in a file (mode 0600), his refresh token "
            "in an environment variable: never as an argument.",
        )
        self._run("add", POOL, f"@{self._write_token_response(ALICE)}")
        self._run("add", POOL, "env:BOB_TOKEN", secrets={"BOB_TOKEN": self._sign_in(BOB)["refresh_token"]})
        self._stage.gateway.wait_for(f"Pool {POOL} reloaded: 2 ready")
        self._note_stored_tokens()

    def _send(self) -> None:
        self._narrator.step("Send requests", "Four requests through the gateway, none of them with a credential:")
        served = self._request_all(4)
        expect(served == Counter({ALICE: 2, BOB: 2}), "the two accounts did not take turns")

    def _revoke(self) -> None:
        self._narrator.step("Revoke", "The provider revokes Alice: her access and refresh tokens are worthless now.")
        self._stage.provider.revoke(ALICE)

    def _fail_over(self) -> None:
        self._narrator.step("Fail over", "Four more requests. The client does not notice:")
        served = self._request_all(4)
        expect(served == Counter({BOB: 4}), "Bob did not serve all of them")
        self._narrator.say(
            "Meanwhile in the gateway's log. Some providers say invalid_grant for things that pass, so Alice is out at "
            "once, and the provider is asked a second time some seconds later:"
        )
        self._narrator.quote(self._stage.gateway.wait_for(f"Token refresh failed ({POOL}/{ALICE}): invalid_grant"))
        self._narrator.quote(self._stage.gateway.wait_for(f"Disabling account {POOL}/{ALICE} due to invalid_grant"))

    def _show_verdict(self) -> None:
        path = self._stage.account_file(ALICE)
        self._narrator.step(
            "On disk", f"Her file holds the verdict, over restarts too: {path.relative_to(self._stage.home)}"
        )
        text = path.read_text()
        account = tomllib.loads(text)
        expect(account.get("disabled") is True, "Alice's file does not say that she is disabled")
        expect("invalid_grant" in account.get("disabled_reason", ""), "Alice's file does not say why she is disabled")
        lines = [line for line in text.splitlines() if line.startswith("disabled")]
        when = f"disabled_at = {account['disabled_at']}"
        self._narrator.quote("\n".join(lines).replace(when, f"{when}  # {timestamp(account['disabled_at'])}"))
        self._run("accounts")

    def _sign_in_again(self) -> None:
        self._narrator.step(
            "Sign in again", "Alice opens the address in her browser and signs in once more. That is all it takes:"
        )
        browse = lambda address: self._stage.provider.browse(address, ALICE)  # noqa: E731
        address, answer = self._stage.authpool.sign_in("login", POOL, ALICE, browse=browse)
        shown = textwrap.shorten(address.replace("&", " &"), WIDTH - INDENT - 2, placeholder=" &...").replace(" &", "&")
        self._narrator.command(f"authpool login {POOL} {ALICE}", f"{shown}\n{answer}")
        self._note_stored_tokens()

    def _return(self) -> None:
        self._narrator.step("Return", "The running gateway has noticed by itself. In its log:")
        written_at = self._stage.account_file(ALICE).stat().st_mtime
        returned = self._stage.stop.wait_until(self._alice_serves, _RETURN_SECONDS)
        seconds = time.time() - written_at
        expect(returned, f"Alice did not serve again within {_RETURN_SECONDS:.0f} s")
        self._narrator.quote(self._stage.gateway.wait_for(f"Account {POOL}/{ALICE} re-enabled: new refresh token"))
        self._narrator.say(f"{seconds:.1f} s after her file was written she is serving again. Four requests:")
        served = self._request_all(4)
        expect(served == Counter({ALICE: 2, BOB: 2}), "the two accounts did not take turns again")

    def _show_flow(self) -> None:
        flow = self._failed_over_flow()
        self._narrator.step("In mitmweb", "The request that met the revoked account, as mitmweb shows and saves it:")
        headers = {name.lower(): value for name, value in flow["request"]["headers"]}
        self._narrator.quote(f"Authorization: {headers.get('authorization')}\n{flow['comment']}")
        expect(headers.get("authorization") == "Bearer [authpool]", "the flow does not show the placeholder")
        secrets = self._secrets | self._stage.api.tokens
        shown = json.dumps(self._stage.gateway.flows()).encode()
        seen = shown + self._stage.gateway.saved_flows() + "\n".join(self._stage.gateway.log).encode()
        expect(secrets and not any(s.encode() in seen for s in secrets), "a token is in view in mitmweb")
        self._narrator.say(
            f"None of the {len(secrets)} tokens of this story is in its flows, in the flow file it saves, "
            "or in its log."
        )

    # --- what the steps do ------------------------------------------------------------------------------------

    def _sign_in(self, email: str) -> dict[str, Any]:
        response = self._stage.provider.sign_in(email)
        self._secrets |= _tokens(response)
        return response

    def _write_token_response(self, email: str) -> str:
        """Keep a token response in a new file of the users' folder; answers its name."""
        name = f"{email.partition('@')[0]}.json"
        path = self._stage.folder / name
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(self._sign_in(email), file)
        return name

    def _run(self, *arguments: str, secrets: dict[str, str] | None = None) -> None:
        self._narrator.command(f"authpool {' '.join(arguments)}", self._stage.authpool.run(*arguments, secrets=secrets))

    def _note_stored_tokens(self) -> None:
        for name in (ALICE, BOB):
            self._secrets |= _tokens(tomllib.loads(self._stage.account_file(name).read_text())["token"])

    def _request(self) -> str:
        answer = fetch(f"{self._stage.gateway.url}/hello")
        user = served_user(answer.body)
        expect(answer.status == 200 and user, f"a client got HTTP {answer.status} through the gateway, and not 200")
        return user

    def _request_all(self, count: int) -> Counter[str]:
        """Send so many, one after the other, and say who was served."""
        users = [self._request() for _ in range(count)]
        self._narrator.quote("   ".join(f"200 {user.partition('@')[0]}" for user in users))
        return Counter(users)

    def _alice_serves(self) -> bool:
        return self._request() == ALICE

    def _failed_over_flow(self) -> dict[str, Any]:
        found = [flow for flow in self._stage.gateway.flows() if f"{ALICE}: invalid_grant" in flow["comment"]]
        expect(len(found) == 1, f"mitmweb has {len(found)} flows that failed over from Alice, and not 1")
        return found[0]


def _tokens(document: dict[str, Any]) -> set[str]:
    keys: Iterable[str] = ("access_token", "refresh_token", "id_token")
    return {document[key] for key in keys if document.get(key)}

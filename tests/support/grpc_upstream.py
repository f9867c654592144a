"""A gRPC server of grpcio's own behind the gateway; grpcio is imported when it is asked for."""

import asyncio
import importlib
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def grpc_upstream(tokens: Container[str], pem: bytes, gate: asyncio.Event) -> AsyncIterator[int]:
    """Serve `test.Service` with TLS for who has one of these tokens; gives the port.

    `Plain` is unary, `Events` a stream of three answers (each but the first waits for `gate`), `Upload` takes a stream.
    """
    grpc: Any = importlib.import_module("grpc")
    aio: Any = importlib.import_module("grpc.aio")

    async def let_in(context: Any) -> None:
        fields = dict(context.invocation_metadata())
        if fields.get("authorization", "").removeprefix("Bearer ") not in tokens:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is no good")

    async def plain(_request: bytes, context: Any) -> bytes:
        await let_in(context)
        return b"hello"

    async def events(_request: bytes, context: Any) -> AsyncIterator[bytes]:
        await let_in(context)
        for number in range(3):
            if number:
                await gate.wait()
                gate.clear()
            yield b"event"

    async def upload(requests: AsyncIterator[bytes], context: Any) -> bytes:
        await let_in(context)
        return str(sum([len(piece) async for piece in requests])).encode()

    handlers = {
        "Plain": grpc.unary_unary_rpc_method_handler(plain),
        "Events": grpc.unary_stream_rpc_method_handler(events),
        "Upload": grpc.stream_unary_rpc_method_handler(upload),
    }
    server = aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(pem, pem)]))
    await server.start()
    try:
        yield int(port)
    finally:
        await server.stop(0)

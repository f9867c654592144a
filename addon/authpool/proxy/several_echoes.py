"""A credential that went out in more than one form: each is covered where an answer repeats it. Pure."""

from collections.abc import Sequence

from authpool.proxy.echo import Echo, Fields, StreamedEcho


class SeveralEchoes(Echo):
    """Covers one credential after the other, so that the longer forms come first."""

    def __init__(self, credentials: Sequence[str], placeholder: str, *, for_client: bool = False) -> None:
        super().__init__("", placeholder, for_client=for_client)
        self._echoes = [Echo(credential, placeholder, for_client=for_client) for credential in credentials]

    def fields(self, fields: Fields) -> Fields:
        for echo in self._echoes:
            fields = echo.fields(fields)
        return fields

    def text(self, text: str) -> str:
        for echo in self._echoes:
            text = echo.text(text)
        return text

    def body(self, content: bytes, coding: str = "") -> bytes:
        for echo in self._echoes:
            content = echo.body(content, coding)
        return content

    def stream(self) -> StreamedEcho:
        return _SeveralStreams(self, [echo.stream() for echo in self._echoes])


class _SeveralStreams(StreamedEcho):
    """Each piece goes through all of them; what one holds back, the next has not seen yet."""

    def __init__(self, echo: Echo, streams: Sequence[StreamedEcho]) -> None:
        super().__init__(echo)
        self._streams = streams

    def feed(self, data: bytes) -> bytes:
        for stream in self._streams:
            data = stream.feed(data)
        return data

    def end(self) -> bytes:
        rest = b""
        for stream in self._streams:
            rest = (stream.feed(rest) if rest else b"") + stream.end()
        return rest

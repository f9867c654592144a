"""What the demo says when something did not happen as told."""


class DemoFailedError(Exception):
    """A step did not do what it said; the message is for whoever watches, and holds no token."""


def expect(holds: object, otherwise: str) -> None:
    """Let the story go on only when this holds. Raises DemoFailedError."""
    if not holds:
        raise DemoFailedError(otherwise)

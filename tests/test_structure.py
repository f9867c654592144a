"""The shape of the package: rooms that import one way, and plugins that import what is promised to them."""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "addon" / "authpool"

FLOORS = (
    "authpool",
    "errors",
    "toml_table",
    "clock",
    "supervision",
    "accounts",
    "files",
    "config",
    "oauth",
    "clients",
    "store",
    "rotation",
    "pool",
    "refresh",
    "requests",
    "plugins",
    "gateway",
    "verbs",
    "proxy",
    "cli",
    "testing",
    "demo",
)
"""From the ground up: each room imports from those before it, and from none after it."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the package by its dotted name, parsed."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), ast.parse(path.read_text("utf-8"))


def imports(tree: ast.Module, known: frozenset[str] = frozenset()) -> set[str]:
    """The dotted names of what a module imports; a name that is itself a module counts as that module."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in known else node.module)
    return found


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "authpool"


def test_every_room_has_its_floor() -> None:
    """A new package says where it stands."""
    assert {room(name) for name, _ in modules()} - {"__main__"} == set(FLOORS)


def test_rooms_import_one_way() -> None:
    """From the mitmproxy shell down to what an account is, never up; so there is no cycle between packages."""
    upwards = [
        f"{name} imports {imported}"
        for name, tree in modules()
        for imported in imports(tree)
        if imported.split(".")[0] == "authpool" and room(name) != "__main__"
        if FLOORS.index(room(imported)) > FLOORS.index(room(name))
    ]
    assert upwards == []


def test_modules_import_without_a_cycle() -> None:
    """Nor is there one inside of a room."""
    trees = dict(modules())
    known = frozenset(trees)
    graph = {
        name: {one for one in imports(tree, known) if one in known and one != name} for name, tree in trees.items()
    }
    for name, imported in graph.items():  # a package's own __init__ is loaded before what is in it, and imports it
        graph[name] = {one for one in imported if not one.startswith(f"{name}.") and not name.startswith(f"{one}.")}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_first_party_plugins_import_what_is_promised() -> None:
    """From `authpool.plugins.api`, parts of their own and the standard library; the example as well.

    And from `cryptography`, a dependency of authpool, which signs with private keys.
    """
    sources = [*(ROOT / "plugins").glob("*.py"), ROOT / "tests" / "example_plugin" / "authpool_example.py"]
    parts = {path.stem for path in sources}
    for path in sources:
        foreign = {
            name
            for name in imports(ast.parse(path.read_text("utf-8")))
            if name.split(".")[0] not in {*sys.stdlib_module_names, "cryptography"}
            and name not in {"authpool.plugins.api", *parts}
        }
        assert foreign == set(), path.name


def test_nothing_is_imported_inside_a_function() -> None:
    """Which is how a cycle would be hidden."""
    inside = [
        f"{name}: {function.name}"
        for name, tree in modules()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert inside == []

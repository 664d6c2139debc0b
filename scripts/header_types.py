"""Write web/viewer/header.d.ts, the types of the viewer file's header, from i2am_core/showing/header.py.

python scripts/header_types.py
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "web" / "viewer" / "header.d.ts"
HEAD = "// Written by scripts/header_types.py from i2am_core/showing/header.py: change it there, and run that.\n"
PLAIN = {int: "number", float: "number", str: "string", bool: "boolean", object: "unknown", type(None): "null"}


def declarations(typed_dicts: tuple[type, ...]) -> str:
    """The TypeScript of some TypedDicts."""
    return "\n".join([HEAD, *("\n".join(_interface(one)) + "\n" for one in typed_dicts)])


def _interface(typed_dict: type) -> Iterator[str]:
    lines = (inspect.getdoc(typed_dict) or "").replace("``", "`").replace(" None ", " null ").splitlines()
    yield "/**"
    yield from (f" * {line}".rstrip() for line in lines)
    yield " */"
    yield f"export interface {typed_dict.__name__} {{"
    optional: frozenset[str] = getattr(typed_dict, "__optional_keys__", frozenset())
    for name, kind in sorted(get_type_hints(typed_dict).items(), key=lambda field: field[0] in optional):
        yield f"  {name}{'?' if name in optional else ''}: {typescript(kind)};"
    yield "}"


def typescript(kind: Any) -> str:
    """The TypeScript of a type that JSON can hold. Raises ValueError for another."""
    origin, args = get_origin(kind), get_args(kind)
    if kind in PLAIN:
        return PLAIN[kind]
    if is_typeddict(kind):
        return str(kind.__name__)
    if origin is Literal:
        return " | ".join(f'"{value}"' for value in args)
    if origin in (Union, types.UnionType):
        return " | ".join(typescript(one) for one in args)
    if origin is list or (origin is tuple and args[1:] == (...,)):
        return f"Array<{typescript(args[0])}>"
    if origin is tuple:
        return f"[{', '.join(typescript(one) for one in args)}]"
    if origin is dict and args[0] is str:
        return f"Record<string, {typescript(args[1])}>"
    raise ValueError(f"JSON has no type for {kind}: use another in i2am_core/showing/header.py.")


def main() -> None:
    sys.path.append(str(ROOT))
    from i2am_core.showing.header import TYPES

    TARGET.write_text(declarations(TYPES))


if __name__ == "__main__":
    main()

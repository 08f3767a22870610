"""Names of the user's layers as identifiers of C, each given once."""

from __future__ import annotations

import re

KEYWORDS = frozenset(
    {"auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern", "float"}
    | {"for", "goto", "if", "inline", "int", "long", "main", "register", "restrict", "return", "short", "signed"}
    | {"sizeof", "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while"}
)


class Names:
    """Identifiers of one scope; `taken` are those that are used already."""

    def __init__(self, taken: frozenset[str] = frozenset()) -> None:
        self._taken = set(KEYWORDS | taken)

    def new(self, wanted: str) -> str:
        """`wanted` with underscores for what C does not take; numbered if taken."""
        base = re.sub(r"\W", "_", wanted, flags=re.ASCII)
        base = f"n{base}" if not base[:1].isalpha() else base
        name, number = base, 2
        while name in self._taken:
            name, number = f"{base}_{number}", number + 1
        self._taken.add(name)
        return name

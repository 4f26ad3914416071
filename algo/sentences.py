"""How words become sentences for people. Pure: every room may say something."""

from __future__ import annotations


def capitalised(words: str) -> str:
    """The first letter large, the others as they are."""
    return f"{words[:1].upper()}{words[1:]}"


def sentence(words: str) -> str:
    """`words` with a capital at their start and a full stop at their end, unless they end like a sentence already."""
    words = words.strip()
    return f"{capitalised(words)}{'' if words.endswith(('.', '?', '!')) else '.'}"

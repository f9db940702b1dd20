"""Names of files as text that can be printed, stored and read back as one line."""

import unicodedata

_UNPRINTABLE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNS_THE_LINE_AROUND = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    r"""Escape what would break a line or an encoder; every script, space and emoji stays as it is.

    Control characters, line and paragraph separators and marks that turn the reading direction become
    ``\n``, ``\x1b`` or ``\u202e``; a byte that the file system could not decode (PEP 383) becomes
    ``\xff``. Backslashes stay single, so two names may end up the same text.
    """
    return "".join(map(_escaped, text))


def one_line(error: Exception) -> str:
    """Return an exception's text as one printable line of at most 200 characters; its class where empty."""
    text = " ".join(printable(line) for line in str(error).split())
    return text[:200] or type(error).__name__


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(character) in _UNPRINTABLE_CATEGORIES or character in _TURNS_THE_LINE_AROUND:
        return character.encode("unicode_escape").decode("ascii")
    return character

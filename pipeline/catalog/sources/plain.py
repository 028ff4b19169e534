"""Words of a shop page as plain text: no tags, no scripts, no entities, one space between words.

Every function takes whatever a JSON field may hold, and gives None where it says nothing: null, another type, an
empty string, or the word None that a careless export wrote. All are linear in the length of the text.
"""

from __future__ import annotations

import html
import math
import re

TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*+)[^<>]*+>|<![^<>]*+>")  # "a < b" and "<3" are words
INLINE = {"a", "b", "em", "font", "i", "s", "small", "span", "strong", "sub", "sup", "u"}  # no gap where they stand
UNSEEN = {"script", "style"}  # what stands between them is no text
NOTHING = {"", "None"}


def plain(value: object) -> str | None:
    """A string or a number as plain text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value) if math.isfinite(value) else None
    if not isinstance(value, str):
        return None
    text = value
    for _ in range(2):  # shops escape twice now and then: &lt;br&gt;, &amp;quot;
        if "<" in text:
            text = _without_tags(text)
        if "&" in text:
            text = html.unescape(text)
    text = readable(" ".join(text.split()))
    return None if text in NOTHING else text


def joined(value: object, separator: str = " ", most: int | None = None) -> str | None:
    """A string, or the first `most` strings of a list that say something, as one plain text."""
    words = [text for part in (value if isinstance(value, list) else [value]) if (text := plain(part))]
    return separator.join(words[:most]) or None


def shortened(text: str | None, longest: int) -> str | None:
    """At most `longest` characters, cut between words where there are any."""
    if text is None or len(text) <= longest:
        return text
    return text[: longest + 1].rsplit(" ", 1)[0][:longest]


def readable(text: str) -> str:
    """The text with halves of surrogate pairs replaced: JSON can write them, UTF-8 and Parquet cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _without_tags(text: str) -> str:
    pieces: list[str] = []
    end, unseen = 0, ""
    for tag in TAG.finditer(text):
        if not unseen:
            pieces.append(text[end : tag.start()])
        name, closes = (tag[2] or "").lower(), bool(tag[1])
        if not unseen and name not in INLINE:
            pieces.append(" ")
        if name in UNSEEN and not closes:
            unseen = name
        elif name == unseen:
            unseen = ""
        end = tag.end()
    return "".join(pieces) + ("" if unseen else text[end:])

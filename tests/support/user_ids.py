"""User ids that have broken something somewhere: quotes, markup, paths, signs that do not show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from tests.support.folders import ROOT

CASES: Final = ROOT.parent / "shared/cases/user_ids.jsonl"


def _of_file(file: Path) -> list[str]:
    """The subjects of a file of events; none where it is not there."""
    if not file.is_file():
        return []
    return [json.loads(line)["subject"] for line in file.read_text(encoding="utf-8").splitlines() if line]


HOSTILE: Final = list(
    dict.fromkeys(
        (
            *_of_file(CASES),
            "auth0|5f7c8ec7c33c6c004bbafe82", "google-oauth2|113", "anna+shop@example.com", "us-east-1:1c2d",
            "' OR 1=1 --", '"; DROP TABLE x; --', "a'b", 'a"b', "`id`", "$(id)", "${HOME}", "a;b|c&d",
            "../../etc/passwd", "/", "a/b", "..", "C:\\temp\\x", "file:///etc", "x?y=1&z=2#f", "%2e%2F",
            "[bold]x[/]", "[/]", "[red]", ":apple:", "<script>alert(1)</script>", "&amp;", "{{7*7}}", "{%x%}",
            "%s%d", "%", "{0}", "{}", "{a}b{c}", "\\u202e", "\\n", "\\",
            "a b", " a", "a ", " ", "  ", "\u3000", "a\u00a0b", "\u200b", "\u202e", "\u2066x\u2069", "\u200f",
            "\ufeff", "\ufeffann", "\ufffe", "\uffff", "\ufdd0", "\U0010ffff", "\ue000", "\u0378",
            "张三", "張三", "é", "e\u0301", "\u212b", "\u00c5", "ﬁ", "fi", "😀", "👨\u200d👩\u200d👧", "नमस्ते",
            "مرحبا",
            "-x", "--all-erased", "-", "--", "#x", "#", "@x", "*", "?", "a,b", "=1+1", "user", "USER", "User",
            "null", "None", "NaN", "true", "0", "00", "1e5", "0x10", "a" * 256, "张" * 85 + "x", "😀" * 64,
        )
    )
)  # fmt: skip
"""Ids that are all different, and all of them users."""

NO_IDS: Final = (
    "", "a" * 257, "张" * 86, "😀" * 64 + "x", "a\0b", "ann\n", "\ta", "a\rb", "\x1b[31m",
    "\x7f", "\x80", "\x85", "\x9b", "a\u2028b", "a\u2029b", "\ud800", "a\udfff",
)  # fmt: skip
"""Texts that are no user id."""

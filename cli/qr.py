"""A QR code on the terminal, for what a person would otherwise have to type."""

import io

import segno


def text_of(content: str) -> str:
    """Draw it with half blocks, two modules a line; dark on light on any terminal."""
    drawn = io.StringIO()
    segno.make_qr(content, error="l").terminal(drawn, compact=True, border=2)
    return drawn.getvalue()

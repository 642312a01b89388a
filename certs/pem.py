"""PEM in and out.

Source: RFC 7468.
"""

import binascii
import re

from plantroom.wire.errors import IdentityError

CERTIFICATE, REQUEST = "CERTIFICATE", "CERTIFICATE REQUEST"


def encode(label: str, data: bytes) -> bytes:
    """Wrap DER as PEM."""
    text = binascii.b2a_base64(data, newline=False)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    name = label.encode()
    return b"\n".join((b"-----BEGIN %s-----" % name, *lines, b"-----END %s-----\n" % name))


def decode(label: str, text: bytes) -> list[bytes]:
    """Return the DER of every block with this label, in order.

    Raises:
        IdentityError: when a block's content is not base64.
    """
    name = re.escape(label.encode())
    blocks = re.findall(
        rb"-----BEGIN %s-----([A-Za-z0-9+/=\s]*?)-----END %s-----" % (name, name), text
    )
    try:
        return [binascii.a2b_base64(block) for block in blocks]
    except binascii.Error as error:
        raise IdentityError(f"PEM block is not base64: {error}", reason="bad-certificate") from None


def bundle_pem(roots_der: tuple[bytes, ...]) -> bytes:
    """Return roots as a CA file for other tools."""
    return b"".join(encode(CERTIFICATE, root) for root in roots_der)

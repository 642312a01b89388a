"""All that a new device must be told, as one line that fits into a QR code.

`plantroom:join?token=T&bundle=SHA256&address=HOST:PORT&server=SPIFFE_ID&id=SPIFFE_ID`; none of
the values has a character that would need an escape. Printed by `python -m
plantroom.certs.join_code LINE`, one `name=value` a line, for shell scripts. `build` and `parse`
are inverses.
"""

import re
import sys
from dataclasses import dataclass

from plantroom.wire.errors import UsageError
from plantroom.wire.spiffe import SpiffeId

PREFIX = "plantroom:join?"
_VALUE = re.compile(r"[A-Za-z0-9._~:/\[\]-]{1,512}")
_NAMES = ("token", "bundle", "address", "server", "id")


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinCode:
    """`root_sha256` pins the bundle; `server` is who answers at `address`, `spiffe_id` who asks."""

    token: str
    root_sha256: str
    address: str
    server: SpiffeId
    spiffe_id: SpiffeId


def build(code: JoinCode) -> str:
    """Write it as one line."""
    values = (code.token, code.root_sha256, code.address, str(code.server), str(code.spiffe_id))
    return PREFIX + "&".join(f"{name}={value}" for name, value in zip(_NAMES, values, strict=True))


def parse(text: str) -> JoinCode:
    """Read it.

    Raises:
        UsageError: when it is something else.
        SpiffeIdError: when one of its IDs is none.
    """
    parts = [part.partition("=") for part in text.strip().removeprefix(PREFIX).split("&")]
    values = {name: value for name, _, value in parts}
    if (
        not text.strip().startswith(PREFIX)
        or len(parts) != len(_NAMES)
        or set(values) != set(_NAMES)
        or not all(_VALUE.fullmatch(value) for value in values.values())
        or not re.fullmatch(r"[0-9a-f]{64}", values["bundle"])
    ):
        raise UsageError(
            "not a join code",
            where=text.strip()[:40],
            remedy="take the line that `plantroom identity token create` prints, whole",
        )
    return JoinCode(
        token=values["token"],
        root_sha256=values["bundle"],
        address=values["address"],
        server=SpiffeId.parse(values["server"]),
        spiffe_id=SpiffeId.parse(values["id"]),
    )


def main() -> None:
    """Print the parts of the code in the first argument."""
    code = parse(sys.argv[1])
    host, _, port = code.address.rpartition(":")
    parts = {"token": code.token, "bundle": code.root_sha256, "host": host, "port": port}
    parts |= {"server": str(code.server), "id": str(code.spiffe_id)}
    sys.stdout.writelines(f"{name}={value}\n" for name, value in parts.items())


if __name__ == "__main__":
    main()

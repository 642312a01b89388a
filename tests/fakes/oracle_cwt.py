"""Run in an environment of its own, where `cwt` is: read documents with somebody else's code.

Standard input: JSON with hex. Standard output: JSON of what each document says.
"""

import json
import sys
from typing import Any

from cbor2 import loads
from cwt import COSE, COSEKey  # type: ignore[import-not-found]
from cwt.enums import COSEAlgs  # type: ignore[import-not-found]


def key_of(plain: dict[str, Any]) -> Any:
    raw = bytes.fromhex(plain["raw"])
    kid = bytes.fromhex(plain["kid"])
    if plain["algorithm"] == -19:
        table = {1: 1, -1: 6, -2: raw, 2: kid, 3: COSEAlgs.ED25519}
    else:
        table = {1: 2, -1: 1, -2: raw[1:33], -3: raw[33:], 2: kid, 3: COSEAlgs.ESP256}
    return COSEKey.new(table)


def read_manifest(given: dict[str, Any]) -> dict[str, Any]:
    envelope = loads(bytes.fromhex(given["manifest"]))
    assert envelope.tag == 107
    digest, *blocks = loads(envelope.value[2])
    cose = COSE.new()
    for block in blocks:
        cose.decode(block, [key_of(key) for key in given["author"]], detached_payload=digest)
    return {"signed_digest": loads(digest)[1].hex(), "signatures": len(blocks)}


def main() -> None:
    given = json.load(sys.stdin)
    told = {"manifest": read_manifest(given)}
    head = COSE.new().decode(bytes.fromhex(given["head"]), [key_of(k) for k in given["head_keys"]])
    told["head"] = {"exp": loads(head)[4], "version": loads(head)[-70001]}
    roots = [key_of(key) for key in given["roots"]]
    told["trust"] = loads(COSE.new().decode(bytes.fromhex(given["trust"]), roots))[2]
    json.dump(told, sys.stdout)


main()

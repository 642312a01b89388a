import json
import subprocess
import sys
from pathlib import Path

import pytest

from plantroom.certs import attestors
from plantroom.certs.attestor_token import JoinToken
from plantroom.certs.attestor_tpm import TpmAttestor
from plantroom.wire.spiffe import SpiffeId


@pytest.mark.parametrize(("name", "kind"), [("join-token", JoinToken), ("tpm", TpmAttestor)])
def test_the_one_that_is_named_is_made(
    name: str, kind: type, tmp_path: Path, sensor_id: SpiffeId
) -> None:
    made = attestors.choose(
        name, token_file=tmp_path, spiffe_id=sensor_id, tpm="/dev/tpmrm0", tpm_ek="ecc"
    )
    assert isinstance(made, kind)


def test_no_attestor_loads_cryptography_or_asyncio_on_a_device() -> None:
    probe = (
        "import sys, json, plantroom.certs.attestors, plantroom.certs.attestor_tpm;"
        "print(json.dumps([m.partition('.')[0] for m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"cryptography", "asyncio", "logging", "http", "subprocess"}

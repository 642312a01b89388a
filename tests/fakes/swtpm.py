"""Debian's swtpm: a real TPM 2.0 in a process, with the certificate of a maker of its own."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

WAIT_S = 60.0
_LOCALCA = """statedir = {ca}
signingkey = {ca}/signkey.pem
issuercert = {ca}/issuercert.pem
certserial = {ca}/certserial
"""
_SETUP = """create_certs_tool = {tool}
create_certs_tool_config = {folder}/localca.conf
create_certs_tool_options = {folder}/localca.options
"""


def need_swtpm() -> str:
    """Skip, saying so, where swtpm is not installed."""
    tools = [shutil.which(name) for name in ("swtpm", "swtpm_setup", "swtpm_localca")]
    if not all(tools):
        pytest.skip("swtpm is not installed: apt-get install swtpm swtpm-tools")
    return str(tools[2])


def make(folder: Path) -> Path:
    """Make the state of a new chip, and return the certificate of the one who signed for it."""
    tool, ca = need_swtpm(), folder / "ca"
    for place in (ca, folder / "state"):
        place.mkdir(parents=True, exist_ok=True)
    (folder / "localca.conf").write_text(_LOCALCA.format(ca=ca))
    (folder / "localca.options").write_text("--platform-model test\n")
    (folder / "setup.conf").write_text(_SETUP.format(tool=tool, folder=folder))
    command = ["swtpm_setup", "--tpm2", "--tpm-state", str(folder / "state"), "--create-ek-cert"]
    command += ["--config", str(folder / "setup.conf")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return ca / "issuercert.pem"


@contextlib.contextmanager
def started(folder: Path) -> Iterator[str]:
    """Run the chip, and give its place as `identity.tpm` wants it."""
    path = folder / "tpm.sock"
    path.unlink(missing_ok=True)
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder / 'state'}"]
    command += ["--server", f"type=unixio,path={path}", "--flags", "not-need-init,startup-clear"]
    log = folder / "swtpm.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as run:
        try:
            until_s = time.monotonic() + WAIT_S
            while not path.exists():
                assert run.poll() is None, log.read_text()
                assert time.monotonic() < until_s, "swtpm made no socket"
                time.sleep(0.01)
            yield f"unix:{path}"
        finally:
            run.terminate()
            run.wait(WAIT_S)


def extend(place: str, pcr: int, digest: bytes) -> None:
    """Change a register, as another boot loader would."""
    import struct

    from plantroom.certs.tpm import Tpm, _authorisation

    with Tpm(place) as tpm:
        parameters = struct.pack(">IH", 1, 0x0B) + digest
        tpm._command(0x182, (pcr,), (_authorisation(),), parameters)

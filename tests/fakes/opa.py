"""A real OPA: on PATH or where `scripts/install-opa` puts it, run as a command or a server."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from plantroom import policies
from plantroom.wire.identity import Identity
from tests.fakes.ports import free_port

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "scripts" / "install-opa")
BUILD_S = 600
START_S = 60.0


def find() -> str | None:
    """Return the path of an OPA that is here."""
    on_path = shutil.which("opa")
    if on_path is not None:
        return on_path
    done = subprocess.run([SCRIPT, "--find"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def need() -> str:
    """Return an OPA, built now where Go is; else the test that asks is skipped, visibly."""
    found = find()
    if found is not None:
        return found
    if shutil.which("go") is None:
        pytest.skip("no `opa` on PATH and no Go to build it with: scripts/install-opa")
    done = subprocess.run([SCRIPT], capture_output=True, text=True, check=False, timeout=BUILD_S)
    if done.returncode:
        pytest.skip(f"scripts/install-opa could not build it: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


def bundle_copy(folder: Path) -> Path:
    """Copy the bundle, without the Python beside it."""
    made = folder / "bundle"
    ignored = shutil.ignore_patterns("*.py", "__pycache__")
    shutil.copytree(policies.bundle_dir(), made, ignore=ignored)
    return made


def evaluate(opa: str, query: str, document: object, *data: Path) -> Any:
    """Return what `opa eval` says a query's value is; data are bundles."""
    bundles = [word for folder in data for word in ("--bundle", str(folder))]
    done = subprocess.run(
        [opa, "eval", "--format=json", "--stdin-input", *bundles, query],
        input=json.dumps(document),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(done.stdout)["result"][0]["expressions"][0]["value"]


def certificate_files(folder: Path, identity: Identity) -> list[str]:
    """Write an SVID as OPA wants it, and return the options that name it."""
    import ssl

    (folder / "cert.pem").write_bytes(identity.svid.chain_pem)
    (folder / "key.pem").write_bytes(identity.svid.key_pem)
    roots = [der for bundle in identity.bundles.values() for der in bundle.roots_der]
    (folder / "roots.pem").write_text("".join(map(ssl.DER_cert_to_PEM_cert, roots)))
    return [
        f"--tls-cert-file={folder}/cert.pem",
        f"--tls-private-key-file={folder}/key.pem",
        f"--tls-ca-cert-file={folder}/roots.pem",
        "--authentication=tls",
        "--min-tls-version=1.3",
    ]


@contextmanager
def serving(opa: str, folder: Path, *options: str) -> Iterator[int]:
    """Run an OPA server on the bundle until the block ends; gives its port."""
    port = free_port()
    bundle = folder / "bundle"
    command = [opa, "run", "--server", f"--addr=127.0.0.1:{port}", "--log-level=error"]
    command += [
        "--disable-telemetry",
        "--bundle",
        str(bundle if bundle.exists() else bundle_copy(folder)),
        *options,
    ]
    with (folder / "opa.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        give_up_s = time.monotonic() + START_S
        while True:
            assert process.poll() is None, (folder / "opa.log").read_text()
            assert time.monotonic() < give_up_s, (folder / "opa.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port), 1.0).close()
            except OSError:
                time.sleep(0.05)
            else:
                break
        yield port
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

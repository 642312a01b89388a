"""Real SPIRE, where it is on PATH: a server and an agent of one trust domain, as an operator's."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.waiting import until

OLDEST = (1, 12)
COMMAND_S = 30
START_S = 60

SERVER = """\
server {{
    bind_address = "127.0.0.1"
    bind_port = "{port}"
    trust_domain = "{trust_domain}"
    data_dir = "{folder}/server"
    socket_path = "{server_socket}"
    log_level = "INFO"
    ca_ttl = "24h"
    default_x509_svid_ttl = "1h"

    federation {{
        bundle_endpoint {{
            address = "127.0.0.1"
            port = {bundle_port}
            profile "https_spiffe" {{
            }}
        }}
    }}
}}

plugins {{
    DataStore "sql" {{
        plugin_data {{
            database_type = "sqlite3"
            connection_string = "{folder}/server/datastore.sqlite3"
        }}
    }}
    KeyManager "disk" {{
        plugin_data {{
            keys_path = "{folder}/server/keys.json"
        }}
    }}
    NodeAttestor "join_token" {{
        plugin_data {{
        }}
    }}
}}
"""
AGENT = """\
agent {{
    data_dir = "{folder}/agent"
    log_level = "INFO"
    server_address = "127.0.0.1"
    server_port = "{port}"
    socket_path = "{socket}"
    trust_bundle_path = "{folder}/bundle.pem"
    trust_domain = "{trust_domain}"
}}

plugins {{
    KeyManager "disk" {{
        plugin_data {{
            directory = "{folder}/agent"
        }}
    }}
    NodeAttestor "join_token" {{
        plugin_data {{
        }}
    }}
    WorkloadAttestor "unix" {{
        plugin_data {{
            discover_workload_path = true
        }}
    }}
}}
"""


def need() -> None:
    """Skip, saying why, where there is no SPIRE that is new enough."""
    for program in ("spire-server", "spire-agent"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on PATH: SPIRE 1.12 or newer is tried where it is")
    done = subprocess.run(
        ["spire-server", "--version"], capture_output=True, text=True, check=False, timeout=30
    )
    found = re.search(r"(\d+)\.(\d+)\.\d+", done.stdout + done.stderr)
    if found is None or (int(found[1]), int(found[2])) < OLDEST:
        pytest.skip(f"SPIRE is {found[0] if found else 'of an unknown version'}, not 1.12 or newer")


class Spire:
    """One trust domain; paths of sockets are short, since the kernel takes 107 characters."""

    def __init__(self, trust_domain: str, folder: Path, *, port: int) -> None:
        self.trust_domain = trust_domain
        self.folder = folder
        self.socket = folder / "agent.sock"
        self._bundle_port = port + 1
        self._server_socket = folder / "server.sock"
        self._node = f"spiffe://{trust_domain}/node/test"
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        for part in ("server", "agent"):
            (folder / part).mkdir(parents=True)
        values = {
            "trust_domain": trust_domain,
            "folder": folder,
            "port": port,
            "bundle_port": self._bundle_port,
            "socket": self.socket,
            "server_socket": self._server_socket,
        }
        (folder / "server.conf").write_text(SERVER.format(**values))
        (folder / "agent.conf").write_text(AGENT.format(**values))

    def start(self) -> None:
        """Start the server, and an agent that joins it."""
        self._run("spire-server")
        what = f"the server of {self.trust_domain}"
        until(
            lambda: _is_healthy("spire-server", self._server_socket), deadline_s=START_S, what=what
        )
        (self.folder / "bundle.pem").write_text(self.server("bundle", "show"))
        said = self.server("token", "generate", "-spiffeID", self._node)
        token = re.search(r"[0-9a-f-]{36}", said)
        assert token is not None, said
        self.start_agent("-joinToken", token[0])

    def start_agent(self, *words: str) -> None:
        """Start the agent; one that has joined before needs no token."""
        self._run("spire-agent", *words)
        what = f"the agent of {self.trust_domain}"
        until(lambda: _is_healthy("spire-agent", self.socket), deadline_s=START_S, what=what)

    def kill_agent(self) -> None:
        """Kill the agent the hard way."""
        agent = self._programs.pop("spire-agent")
        agent.kill()
        agent.wait(COMMAND_S)

    def server(self, *words: str) -> str:
        """Run a command of `spire-server`, and return what it says."""
        verbs = 3 if words[0] == "localauthority" else 2
        flags = ("-socketPath", str(self._server_socket), *words[verbs:])
        done = subprocess.run(
            ["spire-server", *words[:verbs], *flags],
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_S,
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}{self.logs()}"
        return done.stdout

    def federate(self, other: "Spire") -> None:
        """Take the other's bundle as it is now, and fetch it from then on."""
        bundle = self.folder / f"{other.trust_domain}.json"
        bundle.write_text(other.server("bundle", "show", "-format", "spiffe"))
        self.server(
            *("federation", "create", "-trustDomain", other.trust_domain),
            *("-bundleEndpointURL", f"https://127.0.0.1:{other._bundle_port}"),
            *("-bundleEndpointProfile", "https_spiffe"),
            *("-endpointSpiffeID", f"spiffe://{other.trust_domain}/spire/server"),
            *("-trustDomainBundlePath", str(bundle), "-trustDomainBundleFormat", "spiffe"),
        )

    def refresh(self, other: "Spire") -> None:
        """Fetch the other's bundle now, from its endpoint."""
        self.server("federation", "refresh", "-id", f"spiffe://{other.trust_domain}")

    def admit(self, path: str, *words: str, ttl_s: int) -> None:
        """Create the entry of a process of this test's user, running this interpreter."""
        self.server(
            *("entry", "create", "-parentID", self._node),
            *("-spiffeID", f"spiffe://{self.trust_domain}/{path}", "-x509SVIDTTL", str(ttl_s)),
            *("-selector", f"unix:uid:{os.geteuid()}"),
            *("-selector", f"unix:path:{Path(sys.executable).resolve()}"),
            *words,
        )

    def forget(self, path: str) -> None:
        """Delete the entries of this ID."""
        name = f"spiffe://{self.trust_domain}/{path}"
        said = self.server("entry", "show", "-spiffeID", name, "-output", "json")
        for entry in json.loads(said)["entries"]:
            self.server("entry", "delete", "-entryID", entry["id"])

    def prepare_root(self) -> None:
        """Put a new root into the bundle; it signs nothing yet, so that all can learn it first."""
        self._authority("prepare")

    def replace_root(self) -> None:
        """Sign with the prepared root; the agents renew at once what the old one has signed."""
        prepared = self._authority("show")["prepared"]["authority_id"]
        self._authority("activate", prepared)
        self._authority("taint", self._old_root())

    def revoke_root(self) -> None:
        """Take the tainted root out of the bundle."""
        self._authority("revoke", self._old_root())

    def _old_root(self) -> str:
        return str(self._authority("show")["old"]["authority_id"])

    def _authority(self, verb: str, authority_id: str = "") -> Any:
        which = ("-authorityID", authority_id) if authority_id else ()
        said = self.server("localauthority", "x509", verb, *which, "-output", "json")
        return json.loads(said)

    def close(self) -> None:
        """Stop both."""
        for program in self._programs.values():
            program.send_signal(signal.SIGTERM)
        for program in self._programs.values():
            try:
                program.wait(COMMAND_S)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait(COMMAND_S)
        self._programs.clear()

    def has_refused(self) -> bool:
        """Say whether the agent has refused a caller for whom there is no entry."""
        return "No identity issued" in (self.folder / "spire-agent.log").read_text()

    def logs(self) -> str:
        """Return the ends of both logs, for the message of a failed test."""
        logs = sorted(self.folder.glob("*.log"))
        return "".join(f"\n--- {log}\n{log.read_text()[-2000:]}" for log in logs)

    def _run(self, program: str, *words: str) -> None:
        config = self.folder / f"{program.removeprefix('spire-')}.conf"
        with (self.folder / f"{program}.log").open("ab") as log:
            self._programs[program] = subprocess.Popen(
                [program, "run", "-config", str(config), *words], stdout=log, stderr=log
            )


def _is_healthy(program: str, socket: Path) -> bool:
    done = subprocess.run(
        [program, "healthcheck", "-socketPath", str(socket)],
        capture_output=True,
        check=False,
        timeout=COMMAND_S,
    )
    return done.returncode == 0

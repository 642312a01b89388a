"""The folder that an operator or inspector gets."""

import asyncio
import ssl
import stat
from pathlib import Path

from plantroom.certs import svid
from plantroom.certs.authority import Authority
from plantroom.certs.credentials import write_folder
from plantroom.wire import tls
from plantroom.wire.identity import Identity, Principal
from plantroom.wire.spiffe import SpiffeId

INSPECTOR = SpiffeId.parse("spiffe://smart-building.cloud/inspector/explorer")


def test_an_ordinary_tool_reaches_the_gateway_with_these_three_files(
    tmp_path: Path, building: Authority, cloud: Authority, gateway: Identity
) -> None:
    made = write_folder(
        cloud, INSPECTOR, tmp_path / "inspector", bundles={building.trust_domain: building.bundle()}
    )
    # what mosquitto_sub and MQTT Explorer do: the CA file, and the host's name is checked
    tool = ssl.create_default_context(cafile=str(made.roots))
    tool.load_cert_chain(made.certificate, made.key)

    async def scenario() -> Principal:
        found: asyncio.Future[Principal] = asyncio.get_running_loop().create_future()

        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.set_result(svid.verify_peer(writer.get_extra_info("ssl_object"), gateway))
            writer.close()

        context = tls.server_context(gateway)
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=tool, server_hostname="localhost"
            )
            await asyncio.wait_for(reader.read(), 20)
            writer.close()
            await writer.wait_closed()
            return await asyncio.wait_for(found, 20)

    principal = asyncio.run(scenario())
    assert principal.spiffe_id == INSPECTOR
    assert principal.serial == made.svid.serial


def test_the_files_are_as_tools_expect_them(
    tmp_path: Path, building: Authority, cloud: Authority
) -> None:
    folder = tmp_path / "operator"
    for _ in range(2):  # made again at the next start
        made = write_folder(
            cloud, INSPECTOR, folder, bundles={building.trust_domain: building.bundle()}
        )
    assert sorted(path.name for path in folder.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600
    assert made.roots.read_bytes().count(b"BEGIN CERTIFICATE") == 2
    assert 43_200 <= made.svid.not_after_s - made.svid.not_before_s <= 43_260

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("set_up")


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def test_an_image_is_signed_inspected_and_verified_with_the_keys_of_the_state(
    run: Run, tmp_path: Path
) -> None:
    image = written(tmp_path / "image", b"firmware" * 4000)
    signed = run("ota", "sign", image, "--version", "1.4.0", "--notes", "quieter", "--json")
    assert signed.code == 0, signed.err
    assert json.loads(signed.out)["version"] == "1.4.0"
    told = json.loads(run("ota", "inspect", f"{image}.suit", "--json").out)
    assert told == json.loads(signed.out)
    assert "notes: quieter" in run("ota", "inspect", f"{image}.suit").out
    checked = run("ota", "verify", f"{image}.suit", "--image", image, "--json")
    assert json.loads(checked.out) == {"kind": "manifest", "ok": True, "trust": 1}


def test_what_does_not_verify_is_exit_1_with_its_code(run: Run, tmp_path: Path) -> None:
    image = written(tmp_path / "image", b"firmware")
    stranger = str(tmp_path / "stranger.pem")
    assert run("ota", "key", "create", stranger).code == 0
    assert run("ota", "sign", image, "--version", "2", "--key", stranger).code == 0
    refused = run("ota", "verify", f"{image}.suit")
    assert refused.code == 1
    assert "bad-signature" in refused.err
    assert run("ota", "sign", "--add", f"{image}.suit").code == 0  # and by the author of the state
    assert run("ota", "verify", f"{image}.suit").code == 0


def test_trust_and_heads_are_made(run: Run, tmp_path: Path) -> None:
    keys = {}
    for name in ("r1", "r2", "r3", "author", "head"):
        keys[name] = str(tmp_path / name)
        made = run("ota", "key", "create", keys[name], "--algorithm", "p256", "--json")
        assert json.loads(made.out)["algorithm"] == "ESP256"
        assert json.loads(run("ota", "key", "show", keys[name], "--json").out)["key"]
    trust = str(tmp_path / "trust")
    roots = [word for name in ("r1", "r2", "r3") for word in ("--root", keys[name])]
    rest = ("--author", keys["author"], "--head", keys["head"], "--out", trust)
    assert run("ota", "trust", *roots, *rest).code == 0
    image = written(tmp_path / "image", b"firmware")
    assert run("ota", "sign", image, "--version", "2", "--key", keys["author"]).code == 0
    head = str(tmp_path / "head-1")
    named = run(
        "ota", "head", f"{image}.suit", "--version", "1", "--key", keys["head"], "--out", head
    )
    assert named.code == 0
    for document in (trust, head, f"{image}.suit"):
        assert run("ota", "verify", document, "--trust", trust).code == 0
    assert run("ota", "verify", head).code == 1  # under the state's own trust it is a stranger's


BAD: list[tuple[tuple[str, ...], int, str]] = [
    (("sign", "absent", "--version", "1"), 2, "absent"),
    (("sign", "{empty}", "--version", "1"), 2, "empty"),
    (("sign", "{text}"), 2, "--version"),
    (("sign", "{text}", "--version", "x"), 2, "version 'x'"),
    (("sign", "{text}", "--version", "1", "--key", "{text}"), 3, "chmod 600"),
    (("sign", "{text}", "--add"), 2, "not a manifest"),
    (("inspect", "{text}"), 2, "not a manifest"),
    (("verify", "{text}"), 1, "malformed"),
    (("verify", "{text}", "--trust", "{text}"), 3, "trust"),
    (("head", "{text}", "--version", "1", "--out", "x"), 2, "not a manifest"),
    (("key", "show", "absent"), 3, "ota key create"),
    (("publish", "{text}", "--version", "1"), 4, "no building runs"),
    (("publish", "{text}", "--manifest", "{text}"), 2, "not a manifest"),
]


def test_bad_input_is_one_clear_line(run: Run, tmp_path: Path) -> None:
    names = {
        "{text}": written(tmp_path / "text", b"some text"),
        "{empty}": written(tmp_path / "empty", b""),
    }
    for words, code, said in BAD:
        ran = run("ota", *(names.get(word, word) for word in words))
        assert ran.code == code, (words, ran.err)
        assert said in ran.err, (words, ran.err)
        assert ran.err.count("\n") == 1, (words, ran.err)

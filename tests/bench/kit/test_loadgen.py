import shutil
from pathlib import Path

import pytest

from tests.bench.kit import loadgen

needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None or not Path("/usr/include/openssl/ssl.h").exists(),
    reason="needs a C compiler and OpenSSL's headers",
)


@needs_compiler
def test_a_broker_that_is_not_there_is_an_error_and_no_figure(tmp_path: Path) -> None:
    program = loadgen.build(tmp_path)
    arguments = ("--port", "1", "--publishers", "a:3", "--seconds", "1")
    with (
        pytest.raises(loadgen.LoadError, match="3 clients refused"),
        loadgen.load(program, arguments),
    ):
        pass

from plantroom.broker.connection import Connection
from plantroom.broker.outlets import Outlet, Reader


def test_connection_has_what_the_rest_of_the_broker_needs() -> None:
    wanted = {name for name in vars(Outlet) | vars(Reader) if not name.startswith("_")}
    assert wanted <= set(dir(Connection))

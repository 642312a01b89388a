import pytest

from plantroom.lab import app
from plantroom.lab.layout import Layout
from plantroom.wire.errors import UnreachableError
from tests.fakes.readings import hvac_reading
from tests.fakes.stored import put


def test_the_store_is_opened_for_looking(layout: Layout) -> None:
    put(layout.store, hvac_reading())
    with app.cloud_store(layout) as store:
        (book,) = store.books()
    assert book.stored.count == 1


def test_a_store_that_is_not_there_is_not_made(layout: Layout) -> None:
    with pytest.raises(UnreachableError, match="plantroom up"), app.cloud_store(layout):
        pass
    assert not layout.state.exists()

from plantroom.cloud.catalog import READERS, STORES
from plantroom.cloud.settings import CloudSettings, StoreSection


def test_every_kind_that_can_be_configured_is_there_to_write_and_to_read() -> None:
    field = StoreSection.__dataclass_fields__["kind"]
    assert set(field.metadata["choices"]) == set(STORES) == set(READERS)
    assert CloudSettings().store.kind in STORES

"""From flags to devices: simulated ones, and one for each recording with the mapping it needs."""

from pathlib import Path

from plantroom.device import mapping
from plantroom.device.mapping import Mapping
from plantroom.lab.building import Device, Names, simulated
from plantroom.lab.flags import Flags
from plantroom.wire.errors import ConfigError, UsageError


class UnmappedError(UsageError):
    """A recording that no mapping fits; `proposal` is one, to be read and corrected."""

    def __init__(self, error: UsageError, proposal: str) -> None:
        super().__init__(error.what, where=error.where, remedy=error.remedy)
        self.proposal = proposal


def devices_of(flags: Flags) -> tuple[Device, ...]:
    """Return every device that these flags ask for.

    Raises:
        UnmappedError: for a recording without a mapping.
        ConfigError: when a recording or a mapping is wrong.
    """
    names = Names()
    map_file = Path(flags.map_file) if flags.map_file else None
    replayed = tuple(_replayed(Path(csv), map_file, names) for csv in flags.replays)
    return simulated(flags.devices, seed=flags.seed, names=names) + replayed


def _replayed(csv: Path, map_file: Path | None, names: Names) -> Device:
    chosen = _mapping(csv, map_file)
    name = names.give(chosen.device)
    return Device(
        name=name,
        label=name.upper(),
        kind=chosen.kind,
        place=chosen.place,
        description=chosen.description or f"replay of {csv.name}",
        replay=str(csv),
        map_file=str(map_file) if chosen.source == map_file else None,
    )


def _mapping(csv: Path, map_file: Path | None) -> Mapping:
    """Return the mapping in `--map` that fits, else one that ships."""
    unfit: ConfigError | None = None
    if map_file is not None:
        mapping.load(map_file)  # what is wrong with the file itself is an error of its own
        try:
            return mapping.find(csv, map_file)
        except ConfigError as error:
            unfit = error
    try:
        return mapping.find(csv, None)
    except UsageError as error:
        if unfit is not None:
            raise unfit from error
        raise UnmappedError(error, mapping.propose(csv)) from error

"""Run a manifest's commands on a model of the device: what it wants, or why it is refused.

A declared subset of the commands; one that is not in it refuses the manifest, since a recipient
that skips what it does not know would do something else than the author meant.
Source: draft-ietf-suit-manifest-37, sections 6 and 8.4.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from plantroom.wire import cbor, suit
from plantroom.wire.cose import malformed
from plantroom.wire.errors import RejectedError
from plantroom.wire.suit import Manifest

VENDOR, CLASS, MATCH, COMPONENT_SLOT, ABORT, DEVICE = 1, 2, 3, 5, 14, 24  # conditions
SET_INDEX, TRY_EACH, OVERRIDE, FETCH, COPY, INVOKE, RUN_SEQUENCE = 12, 15, 20, 21, 22, 23, 32
# Parameters that carry the number of the command that reads them; DIGEST is MATCH's.
DIGEST, SIZE, URI, SOURCE, INVOKE_ARGUMENTS = 3, 14, 21, 22, 23
_PARAMETERS: Mapping[int, type] = {
    VENDOR: bytes,
    CLASS: bytes,
    DIGEST: bytes,
    COMPONENT_SLOT: int,
    SIZE: int,
    URI: str,
    SOURCE: int,
    INVOKE_ARGUMENTS: bytes,
    DEVICE: bytes,
}
_DEPTH_MAX = 4
_COMMANDS_MAX = 256
_error = malformed("commands")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a manifest has to be for: the device that reads it."""

    vendor_id: bytes
    class_id: bytes
    device_id: bytes | None = None
    slot: int = 0


class Contents(Protocol):
    """What the components hold, or would hold."""

    def fetch(self, component: int, uri: str) -> None:
        """Take an image from somewhere."""
        ...

    def copy(self, component: int, source: int) -> None:
        """Take another component's image."""
        ...

    def matches(self, component: int, digest: bytes, size: int | None) -> bool:
        """Say whether a component holds this image."""
        ...

    def invoke(self, component: int) -> None:
        """Start a component."""
        ...


class _ConditionError(RejectedError):
    """A condition does not hold: a try-each may go on."""


class Commands:
    """One manifest on one target; without a target it is for whomever it says.

    `claims` are the identifiers that its conditions have asked for, by the condition's number.
    """

    def __init__(self, manifest: Manifest, target: Target | None, contents: Contents) -> None:
        self.claims: dict[int, Any] = {}
        self._manifest = manifest
        self._target = target
        self._contents = contents
        self._indices: Iterable[int] = (0,)
        self._parameters: list[dict[int, Any]] = [{} for _ in manifest.components]
        self._left = _COMMANDS_MAX

    def run(self, *names: int) -> None:
        """Run these sequences, as far as the manifest has them, each behind the shared one.

        Raises:
            RejectedError: with the code of the condition that failed, or `unsupported-command`,
                `unsupported-parameter`, `malformed`.
        """
        for name in names:
            if name not in self._manifest.sequences:
                continue
            self._parameters = [{} for _ in self._manifest.components]
            for commands in (self._manifest.shared, self._manifest.sequences[name]):
                self._indices = (0,)  # SUIT 6.4: each sequence begins with the first component
                if commands:
                    self._sequence(commands, 0)

    def _sequence(self, data: Any, depth: int) -> None:
        if depth > _DEPTH_MAX or not isinstance(data, bytes):
            raise _error("too deep, or not bytes")
        items = cbor.loads_exact(data, bytes_max=suit.ENVELOPE_BYTES_MAX, error=_error)
        if not isinstance(items, list) or len(items) % 2 or not items:
            raise _error("a sequence is pairs of command and argument")
        for command, argument in zip(items[::2], items[1::2], strict=True):
            self._left -= 1
            if self._left < 0:
                raise _error(f"more than {_COMMANDS_MAX}")
            if type(command) is not int:
                raise _error("a command is not a number")
            if command == SET_INDEX:
                self._indices = self._chosen(argument)
            elif command == TRY_EACH:
                self._try_each(argument, depth)
            elif command == RUN_SEQUENCE:
                self._sequence(argument, depth + 1)
            else:
                for index in self._indices:
                    self._command(command, argument, index)

    def _chosen(self, argument: Any) -> Iterable[int]:
        count = len(self._parameters)
        if argument is True:
            return range(count)
        chosen = argument if isinstance(argument, list) else [argument]
        if not chosen or not all(type(one) is int and 0 <= one < count for one in chosen):
            raise _error("component index is out of range")
        return tuple(chosen)

    def _try_each(self, argument: Any, depth: int) -> None:
        """Take the first sequence whose conditions hold; null at the end means none may."""
        if not isinstance(argument, list) or not argument:
            raise _error("try-each is not a list")
        failed: _ConditionError | None = None
        for sequence in argument:
            if sequence is None:
                return
            before = [dict(one) for one in self._parameters], self._indices
            try:
                self._sequence(sequence, depth + 1)
            except _ConditionError as error:
                self._parameters, self._indices = before
                failed = error
            else:
                return
        raise failed or _error("try-each has no sequence")

    def _command(self, command: int, argument: Any, index: int) -> None:
        parameters = self._parameters[index]
        if command == OVERRIDE:
            parameters |= _checked(argument)
        elif command in {VENDOR, CLASS, DEVICE, COMPONENT_SLOT}:
            self._compare(command, _need(parameters, command))
        elif command == MATCH:
            digest = suit.read_digest(_need(parameters, DIGEST))
            if not self._contents.matches(index, digest, parameters.get(SIZE)):
                raise _ConditionError("component is not that image", code="wrong-image")
        elif command == ABORT:
            raise _ConditionError("manifest says abort", code="aborted")
        elif command == FETCH:
            self._contents.fetch(index, _need(parameters, URI))
        elif command == COPY:
            source = _need(parameters, SOURCE)
            if not 0 <= source < len(self._parameters):
                raise _error("source component is out of range")
            self._contents.copy(index, source)
        elif command == INVOKE:
            self._contents.invoke(index)
        else:
            raise RejectedError(f"command {command} is not known", code="unsupported-command")

    def _compare(self, command: int, wanted: Any) -> None:
        self.claims[command] = wanted
        target = self._target
        if target is None:
            return
        ours, code = {
            VENDOR: (target.vendor_id, "wrong-vendor"),
            CLASS: (target.class_id, "wrong-class"),
            DEVICE: (target.device_id, "wrong-device"),
            COMPONENT_SLOT: (target.slot, "wrong-slot"),
        }[command]
        if wanted != ours:
            what = code.removeprefix("wrong-")
            raise _ConditionError(f"manifest is for another {what}", code=code)


def _need(parameters: Mapping[int, Any], number: int) -> Any:
    try:
        return parameters[number]
    except KeyError:
        raise _error(f"parameter {number} was not set") from None


def _checked(argument: Any) -> dict[int, Any]:
    if not isinstance(argument, dict):
        raise _error("parameters are not a map")
    for number, value in argument.items():
        if number not in _PARAMETERS:
            raise RejectedError(
                f"parameter {number!r:.20} is not known", code="unsupported-parameter"
            )
        if type(value) is not _PARAMETERS[number]:
            raise _error(f"parameter {number} is not of its kind")
    return argument

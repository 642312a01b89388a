"""Every error that Plantroom raises on purpose, as one tree.

PlantroomError
├── UsageError            exit 2   a command was called wrongly
├── ConfigError           exit 3   a configuration file or variable is wrong
├── UnreachableError      exit 4   not there, or no answer in time
├── RefusedError          exit 5   identity or policy says no
│   └── IdentityError              a certificate, SVID or bundle breaks a rule
├── StorageError          exit 1   a database or file could not be read or written
│   ├── StorageFullError           no space left: retry after space was freed
│   └── StorageCorruptError        the file is damaged: it is set aside, not repaired in place
├── CheckFailedError      exit 1   a check ran and its answer is no
└── WireError             exit 1   bytes or text from outside break a rule
    ├── SpiffeIdError              not a SPIFFE ID
    ├── TopicError                 not a topic of Plantroom's
    ├── PackError                  not a SenML pack that we accept
    ├── EnvelopeError              not a batch, receipt, hello, refill, call or reply that we accept
    └── RejectedError              an update's document, release or message that may not be used
"""

from typing import ClassVar


class PlantroomError(Exception):
    """Something went wrong that the operator can be told in one line.

    `what` is wrong, `where` (file, key, topic, id; may be empty), and the `remedy`: what to do.
    """

    exit_code: ClassVar[int] = 1
    retry_helps: ClassVar[bool] = False

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        where = f", {self.where}" if self.where else ""
        remedy = f": {self.remedy}" if self.remedy else ""
        return f"{self.what}{where}{remedy}"


class UsageError(PlantroomError):
    """A command was called wrongly."""

    exit_code = 2


class ConfigError(PlantroomError):
    """A configuration file or an environment override is wrong."""

    exit_code = 3


class UnreachableError(PlantroomError):
    """The other side is not there or did not answer in time."""

    exit_code = 4
    retry_helps = True


class RefusedError(PlantroomError):
    """Identity or policy refused; `reason` is the machine-readable word for the audit."""

    exit_code = 5

    def __init__(self, what: str, *, reason: str, where: str = "", remedy: str = "") -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.reason = reason


class IdentityError(RefusedError):
    """A certificate, SVID or bundle breaks a rule of SPIFFE or of this system."""


class StorageError(PlantroomError):
    """A database or file could not be read or written."""


class StorageFullError(StorageError):
    """No space is left; nothing was stored, and nothing may be acknowledged."""

    retry_helps = True


class StorageCorruptError(StorageError):
    """A file is damaged."""


class CheckFailedError(PlantroomError):
    """A check ran to its end and its answer is no."""


class WireError(PlantroomError):
    """Bytes or text from outside break a rule; the sender has to change."""


class SpiffeIdError(WireError):
    """Text that is not a SPIFFE ID."""


class TopicError(WireError):
    """A topic that is not one of Plantroom's."""


class PackError(WireError):
    """A payload that is not a SenML pack that we accept; `reason` is the word for quarantine."""

    def __init__(self, what: str, *, reason: str = "undecodable", where: str = "") -> None:
        super().__init__(what, where=where)
        self.reason = reason


class EnvelopeError(WireError):
    """A payload of the bridge or of a call that is not of its form."""


class RejectedError(WireError):
    """A document or message of an update is refused; `code` is the word that is reported."""

    def __init__(self, what: str, *, code: str, where: str = "", remedy: str = "") -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.code = code

"""`plantroom ledger show|verify|export|renew-store`: the books, and whether they close."""

import argparse
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from plantroom.cli import output
from plantroom.cli.options import layout_of, subcommand, subcommands
from plantroom.lab import ledger
from plantroom.lab.audit import Account, Page, union, without
from plantroom.wire.errors import CheckFailedError
from plantroom.wire.ranges import RangeSet

_RANGES_SHOWN = 3
_EPOCHS_SHOWN = 3  # of each device; earlier ones that are closed share a line
_NOTHING = Page(device="", epoch=0, highest=-1)
_HEAD = (
    *("DEVICE", "EPOCH", "FIRST", "LAST", "UNSENT", "GATEWAY", "QUEUED", "CLOUD", "HOLES"),
    "EXCUSED",
    "BOOK",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add them all."""
    commands = subcommands(parser)
    for name, text, run in (
        ("show", "print the books, one line for each device and epoch", show),
        ("verify", "compare gateway and cloud; exit code 1 when a book does not close", verify),
        ("export", "print the books whole, one JSON document a line", export),
    ):
        command = subcommand(commands, name, text, run)
        command.add_argument("--device", metavar="ID", help="only this one: hvac-001")
        if name == "show":
            command.add_argument(
                "--all", action="store_true", help="a line for each earlier epoch as well"
            )
    subcommand(
        commands,
        "renew-store",
        "name the cloud's store anew once it was restored from a backup: gateways refill it",
        renew_store,
    )


def show(options: argparse.Namespace) -> int:
    """Print the books."""
    accounts = _chosen(options, ledger.accounts(layout_of(options)))
    if options.json:
        output.document({"books": [plain(account) for account in accounts]})
    else:
        output.table(_HEAD, _rows(accounts, fold=not options.all))
    return 0


def _rows(accounts: tuple[Account, ...], *, fold: bool) -> Iterator[tuple[object, ...]]:
    """Give a row for each book; closed ones of earlier epochs share one, where that is wanted."""
    for _, group in groupby(accounts, key=lambda account: account.device):
        books = list(group)
        over = [book for book in books[:-_EPOCHS_SHOWN] if book.closes and not _waits(book)]
        if fold and len(over) > 1:
            yield _folded(over)
        else:
            over = []
        yield from (_row(book) for book in books if book not in over)


def _waits(account: Account) -> bool:
    return bool(account.queued or account.at_sensor)


def _folded(accounts: list[Account]) -> tuple[object, ...]:
    """Return one row for closed books of earlier epochs."""
    below = sum(account.gateway.held.count for account in accounts if account.gateway)
    above = sum(account.cloud.held.count for account in accounts if account.cloud)
    reasons: Counter[str] = Counter()
    for account in accounts:
        reasons.update((account.cloud or account.gateway or _NOTHING).reasons)
    excused = ", ".join(f"{name} {count}" for name, count in sorted(reasons.items()))
    name = accounts[0].device.rpartition("/")[2]
    folded = f"{len(accounts)} epochs"
    return name, folded, "", "", "", below, "", above, "", excused, "close"


def verify(options: argparse.Namespace) -> int:
    """Compare, recompute, and say what does not close."""
    accounts = _chosen(options, ledger.verify(layout_of(options)))
    open_books = [account for account in accounts if not account.closes]
    if options.json:
        output.document(
            {
                "closes": not open_books,
                "books": len(accounts),
                "queued": sum(account.queued.count for account in accounts),
                "at_sensors": sum(account.at_sensor.count for account in accounts),
                "faults": [fault for account in open_books for fault in plain(account)["faults"]],
            }
        )
        return 1 if open_books else 0
    for account in open_books:
        for fault in account.faults:
            output.line(
                f"{account.device} epoch {account.epoch} seq {fault.first} to {fault.last}: "
                f"{fault.what}"
            )
    if open_books:
        first = open_books[0]
        raise CheckFailedError(
            f"{len(open_books)} of {len(accounts)} books do not close",
            where=f"{first.device} epoch {first.epoch} "
            f"seq {first.faults[0].first} to {first.faults[0].last}",
            remedy="plantroom ledger show",
        )
    waiting = {
        "queued": sum(account.queued.count for account in accounts),
        "not sent by their sensors yet": sum(account.at_sensor.count for account in accounts),
    }
    said = [f"{count} readings {where}" for where, count in waiting.items() if count]
    output.note(", ".join([f"{len(accounts)} books close", *said]))
    return 0


def export(options: argparse.Namespace) -> int:
    """Print everything that both sides know."""
    for account in _chosen(options, ledger.accounts(layout_of(options))):
        output.document(plain(account))
    return 0


def renew_store(options: argparse.Namespace) -> int:
    """Say that the store was restored."""
    former, new = ledger.renew_store(layout_of(options))
    if options.json:
        output.document({"former": former, "store_id": new})
    output.note(f"the store {former} is {new} now; its gateways send again what they still have")
    return 0


def _chosen(options: argparse.Namespace, accounts: tuple[Account, ...]) -> tuple[Account, ...]:
    return tuple(
        account
        for account in accounts
        if options.device in {None, account.device, account.device.rpartition("/")[2]}
    )


def plain(account: Account) -> dict[str, Any]:
    """Return an account as JSON."""
    return {
        "device": account.device,
        "epoch": account.epoch,
        "closes": account.closes,
        "queued": list(account.queued),
        "at_sensor": list(account.at_sensor),
        "gateway": _page(account.gateway),
        "cloud": _page(account.cloud),
        "faults": [
            {
                "device": account.device,
                "epoch": account.epoch,
                "first": fault.first,
                "last": fault.last,
                "what": fault.what,
            }
            for fault in account.faults
        ],
    }


def _page(page: Page | None) -> dict[str, Any] | None:
    if page is None:
        return None
    return {
        "first": page.held.lowest,
        "last": page.held.highest,
        "count": page.held.count,
        "highest": page.highest,
        "ranges": list(page.held),
        "holes": list(page.holes),
        "excused": list(page.excused),
        "lost": list(page.lost),
        "reasons": dict(page.reasons),
        "disputed": page.disputed,
        "digests": {str(segment): total for segment, total in page.digests.items()},
    }


def _row(account: Account) -> tuple[object, ...]:
    pages = [page for page in (account.cloud, account.gateway) if page is not None]
    held = pages[0].held
    return (
        account.device.rpartition("/")[2],
        account.epoch,
        held.lowest,
        held.highest,
        account.at_sensor.count or "",
        account.gateway.held.count if account.gateway else "",
        account.queued.count or "",
        account.cloud.held.count if account.cloud else "",
        _spans(without(pages[0].holes, union(account.queued, account.at_sensor))),
        _excused(pages),
        "closes" if account.closes else account.faults[0].what,
    )


def _excused(pages: list[Page]) -> str:
    """Say what is evicted, quarantined or lost: as the cloud books it, else as the gateway does."""
    reasons = {name: count for page in pages[::-1] for name, count in page.reasons.items()}
    return ", ".join(f"{name} {count}" for name, count in sorted(reasons.items()))


def _spans(ranges: RangeSet) -> str:
    shown = [f"{first}-{last}" if first < last else f"{first}" for first, last in ranges]
    return ",".join(shown[:_RANGES_SHOWN]) + (" …" if len(shown) > _RANGES_SHOWN else "")

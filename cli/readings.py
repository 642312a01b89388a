"""`plantroom readings export`: stored readings, one value a row."""

import argparse
import csv
import sys
from collections.abc import Iterator
from contextlib import closing

from plantroom.cli import output
from plantroom.cli.options import layout_of, subcommand, subcommands
from plantroom.cloud.store import Row
from plantroom.lab import app, readings
from plantroom.wire.errors import UsageError
from plantroom.wire.rfc3339 import parse_us


def configure(parser: argparse.ArgumentParser) -> None:
    """Add `export`."""
    export = subcommand(subcommands(parser), "export", "print stored readings", run)
    add = export.add_argument
    add("--device", metavar="ID", help="only this one: hvac-001, or its SPIFFE ID")
    add("--from", dest="from_us", metavar="T", type=time, help="from this time on (RFC 3339)")
    add("--to", dest="to_us", metavar="T", type=time, help="up to, not with, this time")
    add("--format", choices=("csv", "parquet"), default="csv")


def time(text: str) -> int:
    """Read a time."""
    try:
        return parse_us(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(options: argparse.Namespace) -> int:
    """Print them as CSV, as JSON lines, or as a Parquet file."""
    device = options.device.rpartition("/")[2] if options.device else None
    with (
        app.cloud_store(layout_of(options)) as store,
        closing(store.export(device=device, from_us=options.from_us, to_us=options.to_us)) as rows,
    ):
        if options.format == "parquet":
            _parquet(rows)
        elif options.json:
            for row in rows:
                output.document(readings.plain(row))
        else:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(readings.COLUMNS)
            writer.writerows(map(readings.texts, rows))
        sys.stdout.flush()
    return 0


def _parquet(rows: Iterator[Row]) -> None:
    if sys.stdout.isatty():
        raise UsageError("a terminal cannot show Parquet", remedy="redirect it into a file")
    readings.write_parquet(rows, sys.stdout.buffer)

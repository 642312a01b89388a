"""`plantroom policy explain|test|diff|log`: why, whether, what would change, what was decided."""

import argparse
import dataclasses
import json
from pathlib import Path

from plantroom import policies
from plantroom.cli import output
from plantroom.cli.options import layout_of, spiffe_id, subcommand, subcommands
from plantroom.lab import judging, tools
from plantroom.policies import bundle, selftest
from plantroom.wire.errors import UsageError
from plantroom.wire.policy import Question

ACTIONS = ("connect", "publish", "subscribe", "call")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add them all."""
    commands = subcommands(parser)
    explain = subcommand(commands, "explain", "say what is decided, and by which rule", run_explain)
    add = explain.add_argument
    add("--as", dest="spiffe_id", metavar="ID", required=True, type=spiffe_id, help="who asks")
    add("--client-id", metavar="TEXT", help="MQTT client id (else the end of the ID)")
    add("--serial", default=judging.NO_SERIAL, help="the certificate's serial")
    add("--qos", type=int, choices=(0, 1), default=1)
    add("--retain", action="store_true")
    add("--at", choices=tools.BROKERS, default="gateway", help="which broker decides (gateway)")
    add("action", choices=ACTIONS)
    add("topic", metavar="TOPIC", nargs="?", default="", help="a topic, or a filter")
    test = subcommand(commands, "test", "run the policy's own tests", run_test)
    for one in (explain, test):
        one.add_argument("--bundle", metavar="DIR", type=Path, help="else the shipped one")
    diff = subcommand(commands, "diff", "ask recorded questions of two bundles", run_diff)
    diff.add_argument("old", metavar="OLD", type=Path, help="folder of a bundle")
    diff.add_argument("new", metavar="NEW", type=Path, help="folder of another")
    diff.add_argument("--questions", metavar="FILE", type=Path, help="else what is on record")
    log = subcommand(commands, "log", "show what was decided", run_log)
    log.add_argument("--as", dest="spiffe_id", metavar="ID", type=spiffe_id, help="only of this ID")
    log.add_argument("--denied", action="store_true", help="only denials")
    log.add_argument("--limit", type=int, default=50, metavar="N", help="the newest N (50)")
    for one in (diff, log):
        one.add_argument("--at", choices=tools.BROKERS, default="gateway", help="whose (gateway)")


def run_explain(options: argparse.Namespace) -> int:
    """Print the decision; exit code 0 whatever it is, as explaining is what was asked for."""
    if options.action != "connect" and not options.topic:
        raise UsageError(f"{options.action} needs a topic", remedy="give one behind the action")
    question = Question(
        spiffe_id=str(options.spiffe_id),
        cert_serial=options.serial,
        client_id=options.client_id or options.spiffe_id.name,
        action=options.action,
        topic=options.topic,
        qos=0 if options.action == "connect" else options.qos,
        retain=options.retain,
    )
    found = judging.explain(layout_of(options), question, broker=options.at, bundle=options.bundle)
    if options.json:
        output.document(found)
        return 0
    output.line("allowed" if found["allow"] else f"denied ({found['reason']})")
    for name in ("rule", "revision", "decision_id", "broker", "registry", "registry_entry"):
        value = found[name]
        output.line(f"  {name:15} {value if isinstance(value, str) else json.dumps(value)}")
    for name, value in found["question"].items():
        output.line(f"  {name:15} {value}")
    if found["nearest"]:
        output.line(f"nearest rule: {found['nearest']['rule'] or 'none was found'}")
        for missing in found["nearest"]["missing"]:
            output.line(f"  it would take {missing}")
    if found["recorded"]:
        seen = found["recorded"]
        said = "allowed" if seen["allow"] else "denied"
        output.line(f"last asked {seen['at']}: {said} (decision {seen['decision_id']})")
    return 0


def run_test(options: argparse.Namespace) -> int:
    """Run the tests; exit code 1 when one fails."""
    report = selftest.run(bundle.load(options.bundle or policies.bundle_dir()))
    if options.json:
        output.document(dataclasses.asdict(report) | {"passed": report.passed})
        return 0 if report.passed else 1
    for outcome in report.outcomes:
        if not outcome.passed:
            output.line(f"FAIL {outcome.package}.{outcome.name}: {outcome.value}")
    for file, line in report.uncovered:
        output.line(f"not covered: {file}:{line}")
    failed = sum(not outcome.passed for outcome in report.outcomes)
    output.line(f"{len(report.outcomes)} tests, {failed} failed")
    return 0 if report.passed else 1


def run_diff(options: argparse.Namespace) -> int:
    """List the answers that flip; exit code 1 when one does."""
    found = judging.diff(
        layout_of(options),
        options.old,
        options.new,
        broker=options.at,
        questions=options.questions,
    )
    if options.json:
        output.document(dataclasses.asdict(found))
        return 1 if found.flips else 0
    for flip in found.flips:
        asked = flip.question
        change = "denied -> ALLOWED" if flip.new.allow else "allowed -> DENIED"
        output.line(f"{change}  {asked.spiffe_id} {asked.action} {asked.topic}  ({flip.times}x)")
        output.line(f"  old: {flip.old.rule}")
        output.line(f"  new: {flip.new.rule}")
    asked_of = f"{found.questions} questions ({found.recorded} recorded)"
    output.line(f"{asked_of}, {len(found.flips)} answers flip")
    return 1 if found.flips else 0


def run_log(options: argparse.Namespace) -> int:
    """Show the newest decisions; with --json as OPA logs them, one a line."""
    who = str(options.spiffe_id) if options.spiffe_id else None
    events = judging.last(
        judging.record(layout_of(options), options.at),
        who=who,
        denied=options.denied,
        limit=max(options.limit, 0),
    )
    if options.json:
        for event in events:
            output.line(json.dumps(event))
        return 0
    output.table(
        ("TIME", "ANSWER", "ACTION", "TOPIC", "SPIFFE ID", "DECISION"),
        [
            (
                event.get("timestamp"),
                "ok" if event["result"].get("allow") else event["result"].get("reason"),
                event["input"].get("action"),
                event["input"].get("topic"),
                event["input"].get("spiffe_id"),
                event.get("decision_id"),
            )
            for event in events
        ],
    )
    return 0

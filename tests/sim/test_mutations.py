"""Tests of the simulation: it notices every rule that is broken on purpose, and nothing else."""

import dataclasses

import pytest

from tests.sim import mutations, mutations_rough, mutations_told, mutations_twice
from tests.sim.mutations import Mutation
from tests.sim.plan import Plan, of_seed
from tests.sim.running import simulate

TRIES = 60
QUICK = {"ack before commit", "delete on PUBACK", "skip a tombstone", "receipt before commit"}


def plan_of(mutation: Mutation, seed: int) -> Plan:
    """Return a plan in which this mutation has a chance to do harm."""
    plan = of_seed(seed)
    changes = {
        "faults": mutation.faults,
        "poison": 0.0,
        "garble": 0.0,
        "faulty_s": 40.0,
        "limits": dataclasses.replace(plan.limits, **mutation.limits),
        "pace": dataclasses.replace(plan.pace, **mutation.pace),
    }
    return plan.but(**(changes | mutation.plan))


def _cases() -> list[object]:
    """Return every mutation: those that the issue names at once, the others in the slow suite."""
    return [
        pytest.param(
            mutation,
            id=mutation.name,
            marks=() if mutation.name in QUICK else pytest.mark.soak,
        )
        for module in (mutations, mutations_told, mutations_twice, mutations_rough)
        for mutation in module.MUTATIONS
    ]


@pytest.mark.parametrize("mutation", _cases())
def test_a_broken_rule_is_noticed(mutation: Mutation) -> None:
    for seed in range(TRIES):
        plan = plan_of(mutation, seed)
        with mutation.change():
            broken = simulate(plan)
        if broken.why:
            assert simulate(plan).why == "", "the plan breaks without the mutation too"
            return
    pytest.fail(f"{TRIES} runs with the rule broken, and nobody noticed")

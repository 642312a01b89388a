"""A whole building on one machine: up, replay, faults, judge."""

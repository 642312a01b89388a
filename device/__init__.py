"""The sensor agent: drivers, sampler, outbox, uplink, capabilities."""

"""What every end of the wire must agree on: readings, topics, identity, policy, TLS, settings."""

"""The MQTT broker: packets, sessions, topic tree, guard, listeners."""

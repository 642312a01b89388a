"""The building gateway: local broker, queue, bridge, downlink, local API."""

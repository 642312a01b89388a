"""The cloud: front broker, ingest, store, devices, dashboard."""

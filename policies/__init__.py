"""The Rego bundle, and the Python that loads and asks it."""

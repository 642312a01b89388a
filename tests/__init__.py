"""The tests, as a package of this name: some distributions install a `tests` of their own."""

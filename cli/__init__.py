"""The plantroom command: one thin module a command."""

"""The order of a run, and the command that people type."""

"""Measurements that take minutes; `make` runs them, tests do not."""

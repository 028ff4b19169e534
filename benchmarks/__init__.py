"""Measurements that take longer than a test may, each rerun by one command."""

"""Ranking, metrics, significance and the index: arrays in, arrays out. Imports nothing of ours but messages."""

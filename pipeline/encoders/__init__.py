"""Frozen text and image encoders: the item features of the content baselines, in the place of the MIRM's.

Read in this order: `checkpoint` (a folder or a hub id becomes a model), `text`, `image`, `embed`.
"""

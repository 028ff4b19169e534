"""Reads results and draws them. Nothing but `stages` imports this room."""

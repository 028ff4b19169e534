"""The catalogue: raw sources in, items and sequences out, and the readers that every later stage opens it with."""

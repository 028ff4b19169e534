"""The embedded demo world: a seeded shop whose truth is known, so that every claim can be checked against it."""

"""One recommender with three pluggable parts: item table x user model x alignment teacher (DESIGN: the grid).

Shapes: B windows of a batch, L positions of a window, D width of vectors, N items, U users, V trained items.
"""

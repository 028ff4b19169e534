"""The tables of the paper, and one's own: which rows there are, computed through DVC, and tabulated."""

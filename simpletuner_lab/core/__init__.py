"""The rules of the house: plain values and pure functions, without I/O and without a clock."""

"""Whether the object endpoint is reached from outside, and if not, what stands in between (SPEC D1)."""

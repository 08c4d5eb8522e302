"""Pure functions in forward and backward pairs, written in the Array API standard (2024.12) alone.

They keep no state and change none of their arguments. Each is the specification of what it computes; a faster kernel
for one library may stand in for it (`xpdl.backends.dispatch`).
"""

"""Networks that look backwards alone: what they say of a place follows from the places before it."""

"""preftrace: what preference alignment did to a model, and which pairs did it."""

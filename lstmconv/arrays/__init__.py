"""Where bytes move: copied, compared and mapped."""

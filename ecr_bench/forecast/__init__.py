"""What a plan will cost, from what was measured on the same hardware; nothing here guesses."""

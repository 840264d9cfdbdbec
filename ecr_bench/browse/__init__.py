"""Single answers to look at, with the sentences that only the machine has that made them."""

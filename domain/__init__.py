"""What may happen and what happened: pure, one module per aggregate. No I/O, clock, randomness, await."""

"""The suite: unit, contract, integration, end to end, golden files, and the rules of the house."""

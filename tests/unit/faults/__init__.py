"""The tools of the fault runs, tested by themselves."""

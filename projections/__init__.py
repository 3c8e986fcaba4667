"""The read side: one module per read model, the runner, and the view stores."""

"""Settings, wiring, the command line, audit and jobs: the only place that knows concrete classes."""

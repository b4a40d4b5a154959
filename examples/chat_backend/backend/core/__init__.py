"""Settings and the process's own file: what is needed before the application starts."""

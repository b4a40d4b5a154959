"""The phases as Prefect tasks: retries, timeouts and artifacts, no decisions."""

"""What an application imports for good; it knows nothing of the migration that led to it."""

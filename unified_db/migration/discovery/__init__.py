"""One module per thing that an application's tree tells of itself: read, never run, nothing changed."""

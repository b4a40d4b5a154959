"""Hides API keys before anything leaves the application."""

VISIBLE_CHARS = 4
SHORTEST_PARTLY_VISIBLE = 12


def mask_key(api_key: str) -> str:
    """Stars and the last four characters; nothing but stars for a short key."""
    if len(api_key) < SHORTEST_PARTLY_VISIBLE:
        return "****"
    return "****" + api_key[-VISIBLE_CHARS:]

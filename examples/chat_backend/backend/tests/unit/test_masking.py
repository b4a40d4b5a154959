from core.masking import mask_key


def test_a_long_key_shows_its_last_four_characters():
    assert mask_key("sk-demo-SECRET-abcd") == "****abcd"


def test_a_short_key_shows_nothing():
    assert mask_key("sk-12345") == "****"

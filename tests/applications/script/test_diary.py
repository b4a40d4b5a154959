from uuid import uuid4

from diary import read, write


def test_a_topic_counts_all_its_words():
    topic = uuid4().hex
    assert [write(topic, "one two"), write(topic, "three")] == [2, 3]
    assert read()[-2:] == ["one two", "three"]

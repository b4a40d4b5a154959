from uuid import uuid4

from guestbook import app


def test_a_guest_who_comes_again_is_known():
    guest, client = uuid4().hex, app.test_client()
    answers = [client.post(f"/guests/{guest}", query_string={"text": t}).json for t in ("first", "second")]
    assert answers == [{"greeting": "welcome", "texts": 1}, {"greeting": "welcome back", "texts": 2}]
    assert client.get("/").json[-2:] == ["first", "second"]

"""Three entries of two guests."""

from guestbook import app

client = app.test_client()
for guest, text in (("kim", "lovely"), ("lee", "so quiet"), ("kim", "even better")):
    assert client.post(f"/guests/{guest}", query_string={"text": text}).status_code == 200

import pytest

from tests.migration.discovery.trees import plant
from unified_db.migration.discovery.bodies import propose_write
from unified_db.migration.discovery.routes import find_applications
from unified_db.migration.discovery.syntax import Sources

MAIN = """
from fastapi import FastAPI, Depends
from pydantic import BaseModel, Field
from models import Said
app = FastAPI()

class Note(BaseModel):
    text: str = Field(min_length=1)
    stars: int
    kind: Literal["a", "b"]
    colour: str = "red"

class Odd(BaseModel):
    when: datetime
"""
MODELS = """
from pydantic import BaseModel
class Said(BaseModel):
    message: str
    thread_id: str | None = None
"""


def propose(root, routes):
    sources = Sources(plant(root, {"main.py": MAIN + routes, "models.py": MODELS}))
    (application,) = find_applications(sources)
    return propose_write(application, sources)


@pytest.mark.parametrize(
    ("routes", "path", "body", "status"),
    [
        pytest.param(
            '@app.post("/notes")\ndef a(n: Note): ...\n@app.post("/chat")\ndef b(said: Said): ...\n',
            "/chat",
            {"message": "hello", "thread_id": "bench-{uuid}"},
            200,
            id="the-one-that-talks-first-with-a-model-of-another-module",
        ),
        pytest.param(
            '@app.post("/notes", status_code=status.HTTP_201_CREATED)\ndef a(note: Note): ...\n',
            "/notes",
            {"text": "hello {uuid}", "stars": 1, "kind": "a"},
            201,
            id="required-fields-alone-and-a-mark-of-its-own",
        ),
        pytest.param(
            '@app.post("/talk/{thread_id}")\ndef a(thread_id: str, words: str, loud: bool): ...\n',
            "/talk/bench-{uuid}?words=hello&loud=false",
            None,
            200,
            id="values-in-path-and-query",
        ),
    ],
)
def test_a_request_that_writes_has_what_its_route_needs_and_touches_nothing_that_is_there(
    tmp_path, routes, path, body, status
):
    found = propose(tmp_path, routes)
    assert found is not None
    assert (found.path, found.body, found.status, found.sure) == (path, body, status, False)


@pytest.mark.parametrize(
    "routes",
    [
        pytest.param('@app.post("/odd")\ndef a(odd: Odd): ...\n', id="a-value-that-nobody-knows"),
        pytest.param('@app.post("/count")\ndef a(n: int): ...\n', id="nothing-to-mark-as-its-own"),
        pytest.param('@app.post("/login")\ndef a(note: Note): ...\n', id="a-login"),
        pytest.param(
            '@app.post("/a")\ndef a(n: Note, u=Depends(current_user)): ...\n', id="for-known-callers"
        ),
        pytest.param('@app.get("/a")\ndef a(): ...\n', id="none-that-writes"),
    ],
)
def test_what_cannot_be_told_is_not_proposed(tmp_path, routes):
    assert propose(tmp_path, routes) is None

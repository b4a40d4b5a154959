import json

from tests.migration.discovery.trees import plant
from unified_db.migration.discovery.requests import find_requests
from unified_db.migration.discovery.routes import find_applications
from unified_db.migration.discovery.syntax import Sources

MAIN = """
from fastapi import FastAPI, Depends
from api import users
from api.notes import router as notes_router

PREFIX = "/api"
app = FastAPI()
app.include_router(users.router, prefix=PREFIX)
app.include_router(notes_router, prefix=settings.prefix)

@app.get("/health")
def health(): ...

@app.get("/search")
def search(q: str): ...

@app.get("/recent")
def recent(limit: int = 10, db=Depends(get_db)): ...

@app.get("/me")
def me(user=Depends(get_current_user)): ...

@app.get("/threads/{thread_id}")
def thread(thread_id: str): ...

@app.get("/stream")
def stream():
    return StreamingResponse(x)

@app.post("/notes")
def add(): ...
"""
USERS = """
from fastapi import APIRouter
router = APIRouter(prefix="/users")

@router.get("/")
async def list_users(request: Request): ...

@router.get("/{user_id}")
async def get_user(user_id: int): ...
"""
NOTES = USERS.replace("/users", "/notes")


def find(root, texts, *, threads=(), ready=""):
    sources = Sources(plant(root, texts))
    applications = find_applications(sources)
    return find_requests(sources, applications[0] if applications else None, ready=ready, threads=threads)


def test_routes_that_can_be_asked_as_they_are_are_found_through_their_routers(tmp_path):
    texts = {"main.py": MAIN, "api/__init__.py": "", "api/users.py": USERS, "api/notes.py": NOTES}
    found = find(tmp_path, texts)
    assert [r.path for r in found if r.sure] == ["/health", "/recent", "/api/users/"]


def test_a_route_that_asks_who_calls_is_a_question(tmp_path):
    found = find(tmp_path, {"main.py": MAIN})
    assert [(r.path, "get_current_user" in r.why) for r in found if not r.sure] == [("/me", True)]


def test_a_routes_thread_comes_from_the_column_that_names_threads(tmp_path):
    found = find(tmp_path, {"main.py": MAIN}, threads=["conversations.thread_id"])
    (request,) = (r for r in found if r.values)
    assert request.path == "/threads/{thread_id}"
    assert request.values == "SELECT thread_id FROM conversations LIMIT 50"
    assert request.sure


def test_a_blueprints_routes_are_those_of_the_application(tmp_path):
    texts = {
        "web.py": "from flask import Flask\nfrom pages import bp\napp = Flask(__name__)\n"
        'app.register_blueprint(bp, url_prefix="/p")\n',
        "pages.py": "from flask import Blueprint\nbp = Blueprint('p', __name__)\n"
        "@bp.route('/list')\ndef a(): ...\n@bp.route('/one/<int:n>')\ndef b(n): ...\n"
        "@bp.route('/add', methods=['POST'])\ndef c(): ...\n",
    }
    assert [r.path for r in find(tmp_path, texts)] == ["/p/list"]


def test_an_openapi_document_is_read(tmp_path):
    document = {
        "paths": {
            "/a": {"get": {}},
            "/b": {"get": {"parameters": [{"name": "q", "required": True}]}},
            "/c/{id}": {"get": {}},
            "/d": {"get": {"security": [{"bearer": []}]}},
            "/e": {"post": {}},
        }
    }
    found = find(tmp_path, {"openapi.json": json.dumps(document)})
    assert [(r.path, r.sure) for r in found] == [("/a", True), ("/d", False)]


def test_without_a_route_the_ready_path_is_asked(tmp_path):
    assert [r.path for r in find(tmp_path, {}, ready="/up")] == ["/up"]

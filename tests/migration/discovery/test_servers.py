import pytest

from tests.migration.discovery.trees import plant
from unified_db.migration.discovery.routes import find_applications
from unified_db.migration.discovery.servers import find_server
from unified_db.migration.discovery.syntax import Sources

FASTAPI = """
from fastapi import FastAPI
app = FastAPI()

@app.get("/health")
def health():
    return {}
"""
FLASK = """
from flask import Flask
app = Flask(__name__)

@app.route("/")
def index():
    return ""
"""
ASGI = "{python} -m uvicorn main:app --host 127.0.0.1 --port {port}"


def find(root, texts, **options):
    sources = Sources(plant(root, texts))
    return find_server(sources, find_applications(sources), **options)


@pytest.mark.parametrize(
    ("texts", "start", "cwd", "port"),
    [
        pytest.param({"main.py": FASTAPI}, ASGI, ".", 8000, id="fastapi-alone"),
        pytest.param(
            {"backend/main.py": FASTAPI, "Procfile": "web: cd backend && uvicorn main:app --port 9000\n"},
            ASGI,
            "backend",
            9000,
            id="procfile",
        ),
        pytest.param(
            {
                "app/__init__.py": "",
                "app/main.py": FASTAPI,
                "README.md": "    uvicorn app.main:app --reload\n",
            },
            ASGI.replace("main:app", "app.main:app"),
            ".",
            8000,
            id="readme-and-a-package",
        ),
        pytest.param(
            {
                "app/main.py": FASTAPI,
                "Dockerfile": 'CMD ["uvicorn", "app.main:app", "--host", "0.0.0.0", "--port", "8080"]\n',
            },
            ASGI.replace("main:app", "app.main:app"),
            ".",
            8080,
            id="dockerfile-and-a-package-without-init",
        ),
        pytest.param(
            {"src/shop/__init__.py": "", "src/shop/main.py": FASTAPI + "\nfrom shop import db\n"},
            "{python} -m uvicorn --app-dir src shop.main:app --host 127.0.0.1 --port {port}",
            ".",
            8000,
            id="sources-in-src",
        ),
        pytest.param(
            {"main.py": "from fastapi import FastAPI\ndef make():\n    app = FastAPI()\n    return app\n"},
            "{python} -m uvicorn main:make --factory --host 127.0.0.1 --port {port}",
            ".",
            8000,
            id="a-factory",
        ),
        pytest.param(
            {
                "server.py": FASTAPI
                + 'import uvicorn, os\nif __name__ == "__main__":\n'
                + '    uvicorn.run(app, port=int(os.getenv("PORT", "8123")))\n'
            },
            "{python} server.py",
            ".",
            8123,
            id="a-script-that-takes-the-port-from-the-environment",
        ),
        pytest.param(
            {
                "server.py": FASTAPI
                + 'import uvicorn, argparse\nif __name__ == "__main__":\n'
                + '    p = argparse.ArgumentParser()\n    p.add_argument("--port", type=int, default=8124)\n'
                + "    uvicorn.run(app, port=p.parse_args().port)\n"
            },
            "{python} server.py --port {port}",
            ".",
            8124,
            id="a-script-with-an-option",
        ),
        pytest.param(
            {
                "server.py": FASTAPI
                + 'import uvicorn\nif __name__ == "__main__":\n    uvicorn.run(app, port=8125)\n'
            },
            ASGI.replace("main:app", "server:app"),
            ".",
            8125,
            id="a-script-that-listens-on-one-port-alone-is-not-used",
        ),
        pytest.param(
            {"web.py": FLASK + 'if __name__ == "__main__":\n    app.run(port=5001)\n'},
            "{python} -m flask --app web run --port {port}",
            ".",
            5001,
            id="flask",
        ),
        pytest.param(
            {"chat.py": "import streamlit as st\n", "README.md": "streamlit run chat.py\n"},
            "{python} -m streamlit run chat.py --server.port {port} --server.headless true",
            ".",
            8501,
            id="streamlit",
        ),
        pytest.param(
            {
                "serve.py": "import os\nfrom http.server import HTTPServer\n"
                'port = int(os.environ["PORT"])\n'
                'if __name__ == "__main__":\n    HTTPServer(("", port)).serve_forever()\n'
            },
            "{python} serve.py",
            ".",
            8000,
            id="a-server-of-the-standard-library",
        ),
    ],
)
def test_the_start_stays_in_the_foreground_on_the_port_it_is_given(tmp_path, texts, start, cwd, port):
    found = find(tmp_path, texts)
    assert found is not None
    assert (found.start, found.cwd, found.port, found.sure) == (start, cwd, port, True)


def test_a_server_that_cannot_be_told_its_port_is_a_question(tmp_path):
    text = (
        "from http.server import HTTPServer\nif __name__ == '__main__':\n    HTTPServer(A).serve_forever()\n"
    )
    found = find(tmp_path, {"serve.py": text})
    assert found is not None
    assert not found.sure


def test_another_folder_to_run_in_gives_the_same_server(tmp_path):
    found = find(tmp_path, {"backend/main.py": FASTAPI}, cwd=".")
    assert found is not None
    assert found.start == ASGI.replace("main:app", "--app-dir backend main:app")


def test_an_application_without_a_server_has_none(tmp_path):
    assert find(tmp_path, {"run.py": 'if __name__ == "__main__":\n    print(1)\n'}) is None


def test_the_applications_of_tests_and_broken_files_are_passed_over(tmp_path):
    assert (
        find(tmp_path, {"tests/app.py": FASTAPI, "broken.py": "from fastapi import FastAPI\napp ="}) is None
    )


@pytest.mark.parametrize(
    ("routes", "ready"),
    [
        pytest.param(
            '@app.get("/items")\ndef a(): ...\n@app.get("/api/ping")\ndef b(): ...\n', "/api/ping", id="ping"
        ),
        pytest.param('@app.get("/")\ndef a(): ...\n', "/", id="the-root"),
        pytest.param('@app.get("/items/{item}")\ndef a(item): ...\n', "/openapi.json", id="openapi"),
    ],
)
def test_the_ready_path_is_one_that_answers_without_values(tmp_path, routes, ready):
    found = find(tmp_path, {"main.py": f"from fastapi import FastAPI\napp = FastAPI()\n{routes}"})
    assert found is not None
    assert found.ready == ready


@pytest.mark.parametrize(
    ("texts", "stop"),
    [
        pytest.param({"scripts/stop.py": ""}, "{python} scripts/stop.py", id="a-script"),
        pytest.param({"stop.sh": ""}, "sh stop.sh", id="a-shell-script"),
        pytest.param({"Makefile": "stop:\n\tkill 1\n"}, "make stop", id="make"),
        pytest.param({"deploy/notes.service": "[Service]\n"}, "systemctl stop notes", id="systemd"),
        pytest.param({}, "", id="none"),
    ],
)
def test_a_stop_command_is_proposed_where_there_is_one(tmp_path, texts, stop):
    found = find(tmp_path, {"main.py": FASTAPI, **texts})
    assert found is not None
    assert found.stop == stop

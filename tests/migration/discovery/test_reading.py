"""Where the path of a database is set, in the styles that applications have, one tiny tree each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.migration.discovery.reading_trees import opened, read, saver, winner


@pytest.mark.parametrize(
    ("path", "head", "key", "resolved"),
    [
        pytest.param('"c.db"', "", "", "c.db", id="literal-in-the-call"),
        pytest.param("DB", 'DB = "data/c.db"\n', "DB", "data/c.db", id="constant"),
        pytest.param("str(DB)", 'from pathlib import Path\nDB = Path("c.db")\n', "DB", "c.db", id="path"),
        pytest.param("C.db", 'class C:\n    db = "c.db"\n', "C.db", "c.db", id="class-attribute"),
        pytest.param(
            "DB", 'import os\nDB = os.getenv("CDB", "c.db")\n', "DB", "c.db", id="default-of-a-variable"
        ),
        pytest.param(
            'os.environ.get("CDB") or "c.db"', "import os\n", "", "c.db", id="variable-or-a-literal"
        ),
        pytest.param('"c.db" if True else "d.db"', "", "", "c.db", id="condition-that-is-known"),
        pytest.param(
            "get()", 'def get(name="c.db"):\n    return name\n', "get.name", "c.db", id="default-argument"
        ),
        pytest.param(
            "os.path.join(HERE, 'data', 'c.db')",
            "import os\nHERE = os.path.dirname(os.path.abspath(__file__))\n",
            "",
            "data/c.db",
            id="joined-to-the-folder-of-the-file",
        ),
        pytest.param(
            "HERE / 'c.db'",
            "from pathlib import Path\nHERE = Path(__file__).resolve().parents[0]\n",
            "",
            "c.db",
            id="path-of-the-file",
        ),
        pytest.param(
            "str(Path(DIR).joinpath('c.db'))",
            "from pathlib import Path\nDIR = 'data'\n",
            "",
            "data/c.db",
            id="joinpath",
        ),
        pytest.param(
            "Path('data/app.db').with_name('c.db')",
            "from pathlib import Path\n",
            "",
            "data/c.db",
            id="with-name",
        ),
        pytest.param("f'{DIR}/c.db'", "DIR = './data'\n", "", "data/c.db", id="f-string"),
        pytest.param("DIR + '/c.db'", "DIR = 'data'\n", "", "data/c.db", id="plus"),
        pytest.param("'%s/c.db' % DIR", "DIR = 'data'\n", "", "data/c.db", id="percent"),
        pytest.param("'{}/c.db'.format(DIR)", "DIR = 'data'\n", "", "data/c.db", id="format"),
        pytest.param("'{d}/c.db'.format(d=DIR)", "DIR = 'data'\n", "", "data/c.db", id="format-by-name"),
        pytest.param("'file:c.db?mode=rwc'", "", "", "c.db", id="file-uri"),
    ],
)
def test_the_path_of_the_checkpoints_is_followed_to_its_place(
    path: str, head: str, key: str, resolved: str, tmp_path: Path
) -> None:
    reading = read(tmp_path, {"app.py": saver(path, head)})
    assert opened(reading) == [resolved]
    assert (winner(reading).key, str(winner(reading).resolved)) == (key, resolved)
    assert winner(reading).role == "checkpoints"
    assert not reading.asks or "Relative paths" in reading.asks[0]

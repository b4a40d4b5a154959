import pytest

from unified_db.migration import kept_output

SECRET = "pass<word>&co-0815"


@pytest.mark.parametrize("before", [0, 1, 20, 1024 * 1024 - 9, 1024 * 1024 - 1, 1024 * 1024])
def test_a_secret_is_masked_wherever_it_lies_and_nothing_else_changes(tmp_path, before):
    path = tmp_path / "log"
    filling = b"\xff\n" * (before // 2) + b"x" * (before % 2)
    path.write_bytes(filling + SECRET.encode() + b"middle" + b"pass&lt;word&gt;&amp;co-0815" + filling)
    path.chmod(0o640)
    kept_output.mask_file(path, [SECRET])
    assert path.read_bytes() == filling + b"***middle***" + filling
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_the_longer_of_two_secrets_is_masked_whole(tmp_path):
    path = tmp_path / "log"
    path.write_text("token-1234-long token-1234")
    kept_output.mask_file(path, ["token-1234", "token-1234-long"])
    assert path.read_text() == "*** ***"


def test_a_file_that_is_not_there_is_left_so(tmp_path):
    kept_output.mask_file(tmp_path / "log", [SECRET])
    assert list(tmp_path.iterdir()) == []

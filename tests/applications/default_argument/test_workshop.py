from uuid import uuid4

from workshop import Foreman, foreman, inventory, work


def test_a_job_is_planned_step_by_step():
    job = uuid4().hex
    assert work(job, "file") == ["file", "step 1"]
    assert work(job, "rasp") == ["file", "step 1", "rasp", "step 3"]
    assert {"file", "rasp"} <= set(inventory.names())


def test_another_foreman_may_remember_elsewhere(tmp_path):
    job = uuid4().hex
    assert Foreman(tmp_path / "other.sqlite").plan(job, "cut") == ["cut", "step 1"]
    assert not list(foreman.graph.get_state_history({"configurable": {"thread_id": job}}))

-- An application's own: LangGraph's have a column type, and checkpoints one of metadata.
CREATE TABLE checkpoints (thread_id TEXT, checkpoint_ns TEXT, checkpoint_id TEXT, parent_checkpoint_id TEXT, checkpoint BLOB);
CREATE TABLE writes (thread_id TEXT, checkpoint_ns TEXT, checkpoint_id TEXT, task_id TEXT, task_path TEXT, idx INTEGER, channel TEXT, value BLOB);
INSERT INTO checkpoints VALUES ('a', '', '1', NULL, x'01'), ('a', '', '2', '1', x'02');
INSERT INTO writes VALUES ('a', '', '2', 't', '', 0, 'c', x'03');

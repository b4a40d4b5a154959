CREATE TABLE checkpoints (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '', checkpoint_id TEXT NOT NULL, parent_checkpoint_id TEXT, type TEXT, checkpoint BLOB, metadata BLOB, PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id));
-- Releases before 3.1.2 made the table without task_path.
CREATE TABLE writes (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '', checkpoint_id TEXT NOT NULL, task_id TEXT NOT NULL, idx INTEGER NOT NULL, channel TEXT NOT NULL, type TEXT, value BLOB, PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx));
INSERT INTO checkpoints VALUES ('t', '', '1', NULL, 'json', '{"v": 1, "id": "1", "ts": "2026", "channel_values": {}, "channel_versions": {}, "versions_seen": {}}', '{}');
INSERT INTO writes VALUES ('t', '', '1', 'task', 0, 'messages', 'json', '[1]');

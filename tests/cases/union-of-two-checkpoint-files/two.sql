CREATE TABLE checkpoints (thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '', checkpoint_id TEXT NOT NULL, parent_checkpoint_id TEXT, type TEXT, checkpoint BLOB, metadata BLOB, PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id));
CREATE TABLE writes (
  thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '', checkpoint_id TEXT NOT NULL, task_id TEXT NOT NULL,
  idx INTEGER NOT NULL, channel TEXT NOT NULL, type TEXT, value BLOB, -- as releases before 3.1.2 made it
  PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx));
INSERT INTO checkpoints VALUES ('shared', '', '1', NULL, 'json', '{"v": 1, "id": "1", "ts": "2026", "channel_values": {}, "channel_versions": {}, "versions_seen": {}}', '{}');
INSERT INTO checkpoints VALUES ('shared', '', '2', '1', 'json', '{"v": 1, "id": "2", "ts": "2026", "channel_values": {}, "channel_versions": {}, "versions_seen": {}}', '{}');
INSERT INTO checkpoints VALUES ('shared', '', '3', '2', 'json', '{"v": 1, "id": "3", "ts": "2026", "channel_values": {}, "channel_versions": {}, "versions_seen": {}}', '{}');
INSERT INTO checkpoints VALUES ('only-two', '', '9', NULL, 'json', '{"v": 1, "id": "9", "ts": "2026", "channel_values": {}, "channel_versions": {}, "versions_seen": {}}', '{}');
INSERT INTO writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, value) VALUES ('shared', '', '1', 'task', 0, 'messages', 'json', '[1]');
INSERT INTO writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, value) VALUES ('shared', '', '3', 'task', 0, 'messages', 'json', '[3]');
CREATE TABLE filler (b);
INSERT INTO filler VALUES (zeroblob(300000));

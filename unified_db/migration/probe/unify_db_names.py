"""Names that our pytest plugin writes into JUnit files and that their reader looks for."""

NODE = "unify_db_node"
RETRIED = "unify_db_retried"

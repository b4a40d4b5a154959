from pathlib import Path

import yaml

with Path("config/settings.yaml").open(encoding="utf-8") as stream:
    SETTINGS = yaml.safe_load(stream)

DATABASE_URL = SETTINGS["storage"]["database"]
CHECKPOINTS = Path(SETTINGS["storage"]["guide"]["checkpoints"])

from pathlib import Path

from pydantic_settings import BaseSettings


class Config(BaseSettings, env_prefix="GREENHOUSE_"):
    database_url: str = "sqlite:///var/greenhouse.db"

    @property
    def database_file(self) -> Path:
        return Path(self.database_url.removeprefix("sqlite:///"))

    @property
    def checkpoint_file(self) -> Path:
        return self.database_file.parent / "thoughts.sqlite"


config = Config()

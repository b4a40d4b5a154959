from functools import lru_cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8-sig", extra="ignore")

    database_url: str = Field("sqlite:///./room.db", description="The books.")
    checkpoint_path: str = "data/conversations.sqlite"


@lru_cache
def get_settings() -> Settings:
    return Settings()

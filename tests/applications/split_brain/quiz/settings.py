from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env")

    database_url: str = "sqlite:///quiz.db"
    checkpoint_path: str = "checkpoints.db"


settings = Settings()

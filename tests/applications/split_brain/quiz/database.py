import os

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

# .env is never loaded here, so this is quiz.db while the settings say data/quiz.db.
DATABASE_URL = os.getenv("DATABASE_URL", "sqlite:///quiz.db")
engine = create_engine(DATABASE_URL)
sessions = sessionmaker(engine)


class Base(DeclarativeBase):
    pass


class Score(Base):
    __tablename__ = "scores"

    id: Mapped[int] = mapped_column(primary_key=True)
    player: Mapped[str]
    points: Mapped[int]

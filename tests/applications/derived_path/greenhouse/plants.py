from datetime import datetime

from sqlalchemy import ForeignKey, create_engine, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from greenhouse.config import config


class Base(DeclarativeBase):
    pass


class Plant(Base):
    __tablename__ = "plants"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Reading(Base):
    __tablename__ = "readings"

    id: Mapped[int] = mapped_column(primary_key=True)
    plant_id: Mapped[int] = mapped_column(ForeignKey("plants.id"))
    degrees: Mapped[float]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


config.database_file.parent.mkdir(parents=True, exist_ok=True)
engine = create_engine(config.database_url)
sessions = sessionmaker(engine)
Base.metadata.create_all(engine)

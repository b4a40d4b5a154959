import os

from dotenv import load_dotenv
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

load_dotenv()


class Base(DeclarativeBase):
    pass


class Parcel(Base):
    __tablename__ = "parcels"

    id: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str]
    grams: Mapped[int] = mapped_column(server_default="0", index=True)


engine = create_engine("sqlite:///" + os.environ["PARCELS_DB"])
sessions = sessionmaker(engine)

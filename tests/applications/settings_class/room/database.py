from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from room.settings import get_settings


class Base(DeclarativeBase):
    pass


class Loan(Base):
    __tablename__ = "loans"

    id: Mapped[int] = mapped_column(primary_key=True)
    book: Mapped[str]
    thread_id: Mapped[str]


engine = create_engine(get_settings().database_url, connect_args={"check_same_thread": False})
Session = sessionmaker(engine)

from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from sqlalchemy import func, select

from greenhouse.assistant import connect
from greenhouse.plants import Plant, Reading, sessions


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.graph, connection = await connect()
    yield
    await connection.close()


app = FastAPI(lifespan=lifespan)
router = APIRouter(prefix="/api")


@router.get("/plants")
def plants():
    with sessions() as session:
        rows = session.execute(select(Plant.name, func.count(Reading.id)).join(Reading).group_by(Plant.name))
        return {name: count for name, count in rows}


@router.post("/plants/{name}")
async def measure(name: str, degrees: float):
    with sessions.begin() as session:
        plant = session.scalar(select(Plant).where(Plant.name == name)) or Plant(name=name)
        session.add(plant)
        session.flush()
        session.add(Reading(plant_id=plant.id, degrees=degrees))
    state = await app.state.graph.ainvoke({"degrees": [degrees]}, {"configurable": {"thread_id": name}})
    return {"advice": state["advice"], "readings": len(state["degrees"])}


app.include_router(router)

import argparse
import os
from pathlib import Path

import uvicorn

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=8000)
Path("observatory.pid").write_text(str(os.getpid()))
uvicorn.run("observatory.app:app", host="127.0.0.1", port=parser.parse_args().port)

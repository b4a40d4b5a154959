"""How an application's server starts, where it listens, what answers when it is ready, how it stops.

The command that comes out stays in the foreground and listens where it is told to: the rehearsal runs
two copies side by side, each on a port of its own.
"""

from __future__ import annotations

import ast
import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal

from unified_db.migration.discovery.commands import Mention, find_mentions, make_targets
from unified_db.migration.discovery.finds import ServerFind
from unified_db.migration.discovery.routes import WebApplication
from unified_db.migration.discovery.syntax import Module, Sources, call_name, constant, keyword

Framework = Literal["fastapi", "flask", "streamlit", "django", "script", "other"]
Way = Literal["asgi", "flask", "script", "module", "streamlit", "chainlit", "django"]

_DEFAULT_PORTS: dict[str, int] = {"flask": 5000, "streamlit": 8501}
_SERVING = re.compile(
    r"uvicorn\.run\(|\.serve_forever\(|\brun_app\(|\bwaitress\b|\bserve\(app|socketio\.run\("
)
_FLASK_RUN = re.compile(r"\bapp\w*\.run\(|create_app\([^)]*\)\.run\(")
_PORT_OPTION = re.compile(r"""["']--port["']""")
_PORT_VARIABLE = re.compile(
    r"""(?:getenv|environ(?:\.get)?)\s*[(\[]\s*["']PORT["'](?:\s*,\s*["']?(\d{2,5}))?"""
)
_PORT_FIELD = re.compile(
    r"^\s+port\s*:\s*int(?:\s*=\s*(?:Field\(\s*(?:default\s*=\s*)?)?(\d{2,5}))?", re.MULTILINE
)
_USUAL_NAMES = ("main", "server", "app", "api", "asgi", "wsgi", "run", "__main__")
_READY = ("healthz", "health", "ready", "readyz", "livez", "ping", "heartbeat", "status", "alive")
_STOP_FILES = re.compile(r"(?:^|/)(?:stop|shutdown|stop[_-]?server|server[_-]?stop)\.(py|sh)$")


@dataclass(frozen=True)
class _Candidate:
    """One way to start a server; `file` is the Python file that it leads to."""

    way: Way
    framework: Framework
    file: PurePosixPath
    base: PurePosixPath
    name: str
    cwd: PurePosixPath
    options: str
    port: int
    why: str
    score: int
    sure: bool
    application: WebApplication | None = None


def find_server(
    sources: Sources, applications: Sequence[WebApplication], *, cwd: str | None = None
) -> ServerFind | None:
    """The likeliest way to start the application's server; None for an application without one.

    Args:
        sources: The application's files.
        applications: Its web applications.
        cwd: The folder that it is known to run in, relative to the root; without it the one that the
            commands found speak for.
    """
    mentions = find_mentions(sources)
    candidates = [
        *_from_mentions(sources, mentions, applications),
        *_from_scripts(sources, mentions, applications),
        *_from_applications(sources, applications),
    ]
    if not candidates:
        return None
    best = max(candidates, key=lambda c: (c.score, -len(c.file.parts), -_unusual(c.file)))
    if cwd is not None:
        best = replace(best, cwd=PurePosixPath(cwd))
    return ServerFind(
        framework=best.framework,
        start=_command(best),
        cwd=str(best.cwd),
        port=best.port or _port_of_tree(sources) or _DEFAULT_PORTS.get(best.framework, 8000),
        ready=_ready(best, sources),
        stop=_stop(sources, best.cwd),
        why=best.why,
        sure=best.sure,
    )


def _unusual(file: PurePosixPath) -> int:
    return _USUAL_NAMES.index(file.stem) if file.stem in _USUAL_NAMES else len(_USUAL_NAMES)


# ---- candidates ----------------------------------------------------------------------------------


def _from_mentions(
    sources: Sources, mentions: Sequence[Mention], applications: Sequence[WebApplication]
) -> Iterator[_Candidate]:
    for mention in mentions:
        if mention.runner == "asgi":
            dotted, _, name = mention.names.partition(":")
            file = _locate(sources, dotted.replace(".", "/"), (".py", "/__init__.py"))
        elif mention.runner in {"streamlit", "chainlit", "django", "fastapi"}:
            dotted, name = mention.names, ""
            file = _locate(sources, mention.names.removesuffix(".py"), (".py",))
        else:
            continue  # what else is named is a script's, and counts there
        if file is not None:
            yield _from_mention(sources, mention, file, dotted=dotted, name=name, applications=applications)


def _from_mention(
    sources: Sources,
    mention: Mention,
    file: PurePosixPath,
    *,
    dotted: str,
    name: str,
    applications: Sequence[WebApplication],
) -> _Candidate:
    made = _application_in(file, applications, sources)
    levels = len(PurePosixPath(dotted.replace(".", "/") if mention.runner == "asgi" else dotted).parts)
    base = (file.parent, *file.parents)[levels] if file.name != "__init__.py" else file.parents[levels]
    ways: dict[str, tuple[Way, Framework]] = {
        "streamlit": ("streamlit", "streamlit"),
        "chainlit": ("chainlit", "other"),
        "django": ("django", "django"),
    }
    way, framework = ways.get(mention.runner, ("asgi", made.framework if made else "other"))
    if framework == "flask":
        way = "flask"
    # Where sources lie in src/, the server is started beside it.
    cwd = base.parent if base.name == "src" else base
    factory = bool(made and made.factory and name == made.name)
    return _Candidate(
        way=way,
        framework=framework,
        file=file,
        base=base,
        name=name or (made.name if made else "app"),
        cwd=cwd,
        options=" --factory" if factory else "",
        port=mention.port,
        why=f"as {mention.place} has it",
        score=6 + mention.weight,
        sure=True,
        application=made,
    )


def _from_scripts(
    sources: Sources, mentions: Sequence[Mention], applications: Sequence[WebApplication]
) -> Iterator[_Candidate]:
    reads_port = functools.cache(lambda: _reads_port(sources))
    for file, text in sources.texts_with(".run(", "serve_forever(", "run_app(", "waitress"):
        serves = bool(_SERVING.search(text))
        # Most of these files run something else, so they are not parsed.
        module = sources.module(file) if serves or _FLASK_RUN.search(text) else None
        if module is None:
            continue
        made = _application_in(file, applications, sources)
        flask = made is not None and made.framework == "flask" and bool(_FLASK_RUN.search(text))
        if (serves or flask) and (module.is_run or file.name == "__main__.py" or "uvicorn.run(" in text):
            yield _from_script(sources, module, mentions, made, reads_port=reads_port)


def _from_script(
    sources: Sources,
    module: Module,
    mentions: Sequence[Mention],
    made: WebApplication | None,
    *,
    reads_port: Callable[[], bool],
) -> _Candidate:
    named = [m for m in mentions if _names_script(m, module.file)]
    base = sources.base_of(module)
    cwd = base.parent if base.name == "src" else base
    port = next((m.port for m in named if m.port), 0) or _port_in(module)
    framework: Framework = made.framework if made else "script"
    options = " --port {port}" if _PORT_OPTION.search(module.text) else ""
    takes_port = bool(options) or reads_port()
    candidate = _Candidate(
        way="module" if module.file.name == "__main__.py" else "script",
        framework=framework,
        file=module.file,
        base=base,
        name=made.name if made else "",
        cwd=cwd,
        options=options,
        port=port,
        why=f"as {named[0].place} has it" if named else f"{module.file} serves when it is run",
        score=5 + (named[0].weight if named else 0) + (1 if takes_port else -3),
        sure=takes_port,
        application=made,
    )
    if named:
        candidate = replace(candidate, cwd=_cwd_of(named[0], module.file))
    return candidate


def _names_script(mention: Mention, file: PurePosixPath) -> bool:
    if mention.runner == "script":
        return _ends_with(file, PurePosixPath(mention.names))
    if mention.runner == "module":
        path = PurePosixPath(mention.names.replace(".", "/"))
        return _ends_with(file, path / "__main__.py") or _ends_with(file, path.with_name(path.name + ".py"))
    return False


def _cwd_of(mention: Mention, file: PurePosixPath) -> PurePosixPath:
    """Where a command has to run that calls *file* as the line does."""
    if mention.runner == "module":
        levels = len(mention.names.split(".")) - (0 if file.name == "__main__.py" else 1)
        return (file.parent, *file.parents[1:], PurePosixPath())[levels]
    return PurePosixPath(*file.parts[: len(file.parts) - len(PurePosixPath(mention.names).parts)])


def _from_applications(sources: Sources, applications: Sequence[WebApplication]) -> Iterator[_Candidate]:
    for made in applications:
        base = sources.base_of(made.module)
        cwd = base.parent if base.name == "src" else base
        yield _Candidate(
            way="asgi" if made.framework == "fastapi" else "flask",
            framework=made.framework,
            file=made.module.file,
            base=base,
            name=made.name,
            cwd=cwd,
            options=" --factory" if made.factory and made.framework == "fastapi" else "",
            port=_port_in(made.module),
            why=f"{made.module.file} makes the application {made.name}",
            score=4,
            sure=True,
            application=made,
        )


def _locate(sources: Sources, stem: str, ends: Sequence[str]) -> PurePosixPath | None:
    """The file of the tree whose path ends in *stem*; the one nearest to the root."""
    wanted = [PurePosixPath(stem.removeprefix("./") + end) for end in ends]
    found = [f for f in sources.files if any(_ends_with(f, w) for w in wanted)]
    return min(found, key=lambda f: len(f.parts), default=None)


def _ends_with(file: PurePosixPath, tail: PurePosixPath) -> bool:
    parts = [p for p in tail.parts if p != "."]
    return bool(parts) and list(file.parts[-len(parts) :]) == parts


def _application_in(
    file: PurePosixPath, applications: Sequence[WebApplication], sources: Sources
) -> WebApplication | None:
    """The application that *file* makes, or imports from where it is made."""
    made = next((a for a in applications if a.module.file == file), None)
    module = sources.module(file) if made is None else None
    if module is None:
        return made
    for home, name in module.imports.values():
        found = sources.find(home, near=module) if name else None
        made = next(
            (a for a in applications if found and a.module.file == found.file and a.name == name), None
        )
        if made is not None:
            return made
    named = re.search(r"""run\(\s*["']([\w.]+):(\w+)["']""", module.text)
    found = sources.find(named[1], near=module) if named else None
    return next((a for a in applications if found and a.module.file == found.file), None)


# ---- what comes out ------------------------------------------------------------------------------


def _command(candidate: _Candidate) -> str:
    file = os.path.relpath(candidate.file, candidate.cwd)
    module = ".".join(candidate.file.relative_to(candidate.base).with_suffix("").parts)
    module = module.removesuffix(".__init__")
    aside = candidate.base != candidate.cwd
    match candidate.way:
        case "asgi":
            folder = f" --app-dir {os.path.relpath(candidate.base, candidate.cwd)}" if aside else ""
            return (
                f"{{python}} -m uvicorn{folder} {module}:{candidate.name}{candidate.options} "
                "--host 127.0.0.1 --port {port}"
            )
        case "flask":
            return f"{{python}} -m flask --app {file if aside else module} run --port {{port}}"
        case "streamlit":
            return f"{{python}} -m streamlit run {file} --server.port {{port}} --server.headless true"
        case "chainlit":
            return f"{{python}} -m chainlit run {file} --headless --port {{port}}"
        case "django":
            return f"{{python}} {file} runserver --noreload 127.0.0.1:{{port}}"
        case "module" if not aside:
            return f"{{python}} -m {module.removesuffix('.__main__')}{candidate.options}"
    return f"{{python}} {file}{candidate.options}"


def _ready(candidate: _Candidate, sources: Sources) -> str:
    if candidate.framework == "streamlit":
        return "/_stcore/health"
    made = candidate.application
    paths = (
        [r.path for r in made.routes if r.method == "GET" and not r.parameters and not r.needs]
        if made
        else []
    )
    if not made:
        module = sources.module(candidate.file)
        compared = re.findall(r"""path\s*==\s*["'](/[\w./-]*)["']""", module.text) if module else []
        paths = list(compared)
    for name in _READY:
        for path in paths:
            if path.rstrip("/").rpartition("/")[2].lower() == name:
                return path
    if "/" in paths:
        return "/"
    if made and made.framework == "fastapi" and made.has_openapi:
        return "/openapi.json"
    return paths[0] if paths else ""


def _stop(sources: Sources, cwd: PurePosixPath) -> str:
    for file in sources.files:
        match = _STOP_FILES.search(str(file))
        if match and len(file.parts) <= len(cwd.parts) + 3:
            return f"{'{python}' if match[1] == 'py' else 'sh'} {os.path.relpath(file, cwd)}"
    for makefile, target in make_targets(sources):
        if target == "stop":
            folder = os.path.relpath(makefile.parent, cwd)
            return "make stop" if folder == "." else f"make -C {folder} stop"
    unit = next((f for f in sources.files if f.suffix == ".service"), None)
    return f"systemctl stop {unit.stem}" if unit else ""


# ---- the port ------------------------------------------------------------------------------------


def _port_in(module: Module) -> int:
    """The port that *module* listens on where nobody names one; 0 where it does not say."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and call_name(node) in {
            "run",
            "run_app",
            "serve",
            "add_argument",
            "Option",
        }:
            named = call_name(node) in {"run", "run_app", "serve"} or any(
                isinstance(a, ast.Constant) and a.value == "--port" for a in node.args
            )
            value = constant(
                keyword(node, "port" if call_name(node) != "add_argument" else "default"), module
            )
            if named and isinstance(value, int):
                return value
    match = _PORT_VARIABLE.search(module.text)
    return int(match[1]) if match and match[1] else 0


def _reads_port(sources: Sources) -> bool:
    """True where the tree takes its port from the variable PORT, which every start of ours sets."""
    return any(_PORT_VARIABLE.search(text) for _, text in sources.texts_with("PORT")) or any(
        "env_prefix" not in text and _PORT_FIELD.search(text)
        for _, text in sources.texts_with("BaseSettings")
    )


def _port_of_tree(sources: Sources) -> int:
    for _, text in sources.texts_with("PORT", "BaseSettings"):
        match = _PORT_VARIABLE.search(text)
        if match is None and "BaseSettings" in text:
            match = _PORT_FIELD.search(text)
        if match and match[1]:
            return int(match[1])
    for file in sources.files:
        if file.name.startswith("Dockerfile") or file.name == ".env":
            match = re.search(r"^(?:EXPOSE\s+|PORT=)(\d{2,5})\b", sources.text(file), re.MULTILINE)
            if match:
                return int(match[1])
    return 0

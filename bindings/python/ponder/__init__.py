"""ponder: a thinking model inside your program.

    import ponder

    with ponder.Model("model.gguf") as model, model.session() as session:
        for piece in session.ask("What is this?", ponder.Image("photo.jpg")):
            print(piece, end="", flush=True)

Importing fails with LibraryMismatch when libponder is not the one this package was generated for. Every failure of a
call is a ponder.Error with the status, its name and the library's text. A Model, an Image and a Sound may be used by many
threads; a Config, a Session, a Contemplation and the agents of a session together by one at a time, but for what only ends
something: cancel and close_thought.
"""
from ctypes import byref, c_char, sizeof

from . import _api
from ._agents import Agent, AgentStatus, Contemplated, Contemplation, ContemplationStatus, Opinion, wait
from ._base import Config, Error, ErrorText, as_json, check, config_of, fs_path, params, sized, utf8
from ._lib import LibraryMismatch, lib
from ._media import Image, Sound, Video
from ._model import Model, Tokenizer
from ._session import Event, Parser, Session, Thought
from ._tools import Tool

__all__ = ["Agent", "AgentStatus", "Config", "Contemplated", "Contemplation", "ContemplationStatus", "Error", "Event", "Image",
           "LibraryMismatch", "Model", "Opinion", "Parser", "Session", "Sound", "Thought", "Tokenizer", "Tool", "Video", "params",
           "plan", "render", "version", "wait"]

# The constants, without their PONDER_ prefix: ponder.EVENT_ANSWER.
globals().update({name: value for name, value in vars(_api).items() if name.isupper() and isinstance(value, int)})


def version():
    """(major, minor, patch) of the library that runs."""
    v = lib.ponder_version()
    return v // 1000000, v // 1000 % 1000, v % 1000


def plan(path, config=None, **options):
    """What opening `path` would take, in bytes, by name of ponder_plan's members."""
    config = config_of(config, options)
    out = _api.ponder_plan(size=sizeof(_api.ponder_plan))
    check(lib.ponder_model_plan(byref(out), fs_path(path), config._get()), config._error)
    return {name: getattr(out, name) for name, _ in _api.ponder_plan._fields_ if name != "size"}


def render(template, conversation):
    """What a template makes of {"messages": ..., "tools": ..., "kwargs": ...} (a dict or its JSON)."""
    data = utf8(as_json(conversation))
    error = ErrorText()
    text = sized(c_char, lambda b, cap, n: lib.ponder_render(utf8(template), data, len(data), b, cap, n, byref(error.c)),
                 lambda s: check(s, error))
    return text.raw.decode("utf-8")

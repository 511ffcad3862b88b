"""Budgets of thought, agents and contemplation in Python. Run by check.sh. What an agent must write is what a session alone
writes with its seed; budgets and votes are counted here."""
import collections
import gc
import json
import os
import signal
import threading
import time
import unittest

import ponder

SEED = os.path.join(os.environ["PONDER_TEST_DATA"], "seed0")
with open(os.path.join(SEED, "reference.json"), encoding="utf-8") as file:
    REFERENCE = {r["id"]: r for r in json.load(file)}["compose-03"]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started with it ignored
QUESTION = "Which 3 of 91462 sum to 11?"
LONG = "From B do 1p2t3s4p"
EOM, MESSAGE = 391, 395
THOUGHT = " to=self<|message|>"


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = ponder.Model(SEED, threads=1, kv_type="f32")

    def session(self, **more):
        s = self.model.session(**{"context": 512, "max_tokens": 120, "effort": "high", "temperature": 1, **more})
        self.addCleanup(s.close)
        return s

    def alone(self, seed, question=QUESTION, **more):
        """(answer, thought, end, tokens) of a session with this seed."""
        s, events = self.session(seed=seed, **more), []
        s.add("user", question)
        done = s.generate(events.append)
        answer, thought = ("".join(e.text for e in events if e.kind == k) for k in (ponder.EVENT_ANSWER, ponder.EVENT_THOUGHT))
        return answer, thought, done.end, done.output_tokens

    def endless(self, n):
        """Agents that do not end of themselves for a long time."""
        s = self.session(context=30000, max_tokens=0, ignore_eos=1)
        s.add("user", QUESTION)
        return [s.spawn(seed=i) for i in range(n)]


class Budget(Case):
    def counted(self, session):
        """Tokens behind the header of the first thought, its closing marker included."""
        with self.model.tokenizer() as t:
            ids = session.tokens()
            begin = next(i for i in range(len(ids)) if ids[i] == MESSAGE and t.decode(ids[:i + 1], special=True).endswith(THOUGHT))
        return ids.index(EOM, begin) - begin

    def test_a_budget_is_kept(self):
        for most in (4, 6, 9):
            s = self.session(temperature=0, think_tokens=most, think_soft=0, think_grace=0)
            answer = "".join(s.ask(LONG))
            thought = s.thought()
            self.assertEqual((thought.why, thought.blocks, thought.escaped), ("cap", 1, False))
            self.assertEqual(thought.tokens, self.counted(s))
            self.assertLessEqual(thought.tokens, most)
            self.assertGreater(thought.injected, 0)
            self.assertTrue(answer)

    def test_without_one_the_thought_is_the_references(self):
        s = self.session(temperature=0, effort="")
        s.prompt(REFERENCE["rendered"], special=True)
        s.generate()
        self.assertEqual(s.tokens(), REFERENCE["prompt_ids"] + REFERENCE["greedy_ids"])
        self.assertEqual((s.thought().why, s.thought().tokens, s.thought().injected), ("natural", self.counted(s), 0))

    def test_none_at_all(self):
        s, events = self.session(think_tokens=0), []
        s.add("user", LONG)
        done = s.generate(events.append)
        self.assertNotIn(ponder.EVENT_THOUGHT, [e.kind for e in events])
        self.assertEqual((s.thought().tokens, done.thought_tokens), (0, 0))

    def test_another_thread_closes_the_thought(self):
        s = self.session(temperature=0)
        s.add("user", LONG)
        thinking = 0
        for event in s.events():
            thinking += event.kind == ponder.EVENT_THOUGHT
            if thinking == 1 and event.kind == ponder.EVENT_THOUGHT:
                thread = threading.Thread(target=s.close_thought)
                thread.start()
                thread.join()
        self.assertEqual((event.end, s.thought().why), (ponder.END_EOS, "caller"))
        self.assertLess(s.thought().tokens, 18)  # what it thinks otherwise


class Agents(Case):
    def spawned(self, n, **more):
        s = self.session(**more)
        s.add("user", QUESTION)
        return [s.spawn(seed=i) for i in range(n)]

    def same(self, agent, expected):
        status = agent.status()
        self.assertEqual((agent.answer, agent.thought, getattr(ponder, "END_" + status.end.upper()), status.tokens), expected)

    def test_each_is_the_session_it_would_be_alone(self):
        agents = self.spawned(4)
        self.assertEqual({a.status().state for a in agents}, {"running"})
        self.assertEqual(ponder.wait(agents), agents)
        for seed, agent in enumerate(agents):
            self.same(agent, self.alone(seed))
            self.assertEqual((agent.status().state, agent.status().number), ("done", seed))
            self.assertTrue(0 < agent.status().lowest <= agent.status().confidence <= 1)

    def test_some_are_waited_for_then_the_others(self):
        agents, events = self.spawned(5), []
        done = ponder.wait(agents, 2, on_event=events.append)
        self.assertGreaterEqual(len(done), 2)
        self.assertEqual(done, [a for a in agents if a.status().state == "done"])
        while len(ponder.wait(agents, timeout=0, on_event=events.append)) < 5:
            pass
        for seed, agent in enumerate(agents):
            self.same(agent, self.alone(seed))
            text = "".join(e.text for e in events if e.agent == seed and e.kind == ponder.EVENT_ANSWER)
            self.assertEqual(text, agent.answer)
        self.assertEqual({e.agent for e in events}, set(range(5)))

    def test_options_change_some_of_the_sessions_own(self):
        s = self.session(think_tokens=5, seed=3)
        s.configure(think_tokens=5, seed=3, temperature=1, max_tokens=120, stop=["A", "B"])
        s.add("user", LONG)
        with s.spawn(seed=4) as agent, s.spawn() as plain, s.spawn(stop="8") as other:
            ponder.wait([agent, plain, other])
            self.assertLessEqual(agent.status().thought_tokens, 5)
            self.assertEqual((plain.answer, plain.thought), self.alone(3, LONG, think_tokens=5, stop=["A", "B"])[:2])
            self.assertEqual((other.answer, other.thought), self.alone(3, LONG, think_tokens=5, stop="8")[:2])

    def test_it_goes_on(self):
        s = self.session(temperature=0)
        with s.spawn() as agent:
            self.assertEqual(agent.status().state, "idle")
            agent.send(QUESTION)
            with self.assertRaises(ponder.Error) as caught:
                agent.send(QUESTION)
            self.assertEqual((caught.exception.status, caught.exception.text), (ponder.E_STATE, "the agent is running"))
            self.assertTrue(agent.wait())
            first = agent.session.tokens()
            agent.send("From 3 do ", "1p2t")
            self.assertTrue(agent.wait())
            mine = agent.session
            self.assertEqual(mine.tokens()[:len(first)], first)
            s.add("user", QUESTION)
            s.generate()
            s.add("user", "From 3 do 1p2t")
            s.generate()
            self.assertEqual(mine.tokens(), s.tokens())
        self.assertRaises(ValueError, mine.tokens)
        self.assertRaises(ValueError, agent.status)

    def test_agents_outlive_what_they_came_from(self):
        model = ponder.Model(SEED, threads=1, kv_type="f32")
        s = model.session(context=512, max_tokens=120, effort="high", temperature=1)
        s.add("user", QUESTION)
        agent = s.spawn(seed=2)
        s.close()
        model.close()
        agent.wait()
        self.same(agent, self.alone(2))
        agent.close()

    def test_an_exception_cancels_one_and_arrives(self):
        class Mine(Exception):
            pass

        def fail(event):
            if event.agent == 1:
                raise Mine()
        agents = self.spawned(3)
        self.assertRaises(Mine, ponder.wait, agents, on_event=fail)
        ponder.wait(agents)
        self.assertEqual([a.status().state for a in agents], ["done", "cancelled", "done"])
        for seed in (0, 2):
            self.same(agents[seed], self.alone(seed))

    def test_another_thread_cancels(self):
        agents, started = self.endless(3), threading.Event()

        def cancel():
            started.wait()
            for agent in agents:
                agent.cancel()
        thread = threading.Thread(target=cancel)
        thread.start()
        done = ponder.wait(agents, on_event=lambda event: started.set())
        thread.join()
        self.assertEqual([(a.status().state, a.status().end) for a in done], [("cancelled", "cancelled")] * 3)

    def test_an_interrupt_ends_the_waiting(self):
        agents = self.endless(2)

        def interrupt():
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)
        thread = threading.Thread(target=interrupt)
        thread.start()
        self.assertRaises(KeyboardInterrupt, ponder.wait, agents)
        thread.join()
        self.assertEqual({a.status().state for a in agents}, {"running"})

    def test_closing_one_while_all_are_waited_for(self):
        """Its handle is freed behind the call, whoever drops it."""
        agents, more = self.spawned(3), self.spawned(1)[0]
        group = agents[0]._group

        def close(event):
            if event.agent == 2 and agents[1]._h:
                agents[1].close()
                agents[0].session.spawn().close()
                gc.collect()
                self.assertEqual(len(group._closed), 2)
        self.assertEqual(ponder.wait(agents, on_event=close), [agents[0], agents[2]])
        self.assertEqual(group._closed, [])
        self.same(agents[2], self.alone(2))
        self.assertRaises(ValueError, ponder.wait, [agents[0], more])


class Contemplation(Case):
    def test_a_vote_of_eight(self):
        s = self.session(seed=5)
        result = s.contemplate(QUESTION, agents=8, decide=0)
        expected = [self.alone(5 + i) for i in range(8)]
        self.assertEqual([(a.answer, a.thought, ponder.END_EOS, a.tokens) for a in result.agents], expected)
        votes = collections.Counter(e[0] for e in expected)
        most = max(votes.values())
        self.assertIn(result.answer, [answer for answer, n in votes.items() if n == most])
        self.assertEqual((result.decided_by, result.status.votes, result.status.voters, result.status.agents), ("all", most, 8, 8))
        self.assertEqual(result.status.tokens, sum(a.tokens for a in result.agents))
        self.assertEqual([(a.number, a.end) for a in result.agents], [(i, "eos") for i in range(8)])
        for agent in result.agents:
            self.assertTrue(0 <= agent.confidence <= 1 and agent.ms > 0)
        with self.model.tokenizer() as t:
            self.assertIn(result.answer, t.decode(s.tokens(), special=True))
        self.assertTrue("".join(s.ask("From 3 do 1p2t")))

    def test_in_steps_it_is_the_same(self):
        expected = self.session(seed=5).contemplate(QUESTION, agents=5)
        s = self.session(seed=5)
        with s.contemplation(QUESTION, agents=5) as c:
            with self.assertRaises(ponder.Error) as caught:
                s.add("user", "x")
            self.assertEqual(caught.exception.status, ponder.E_BUSY)
            events = []
            for event in c:
                events.append(event)
                while len(events) < 9:  # by hand, for a while
                    event = c.step(300)
                    events += [event] if event else []
            result = c.result()
            agent = c.agent(0)
            self.assertEqual(agent.answer, expected.agents[0].answer)
            self.assertRaises(ponder.Error, c.agent, 5)
            self.assertRaises(ponder.Error, c.step)
        self.assertRaises(ValueError, agent.status)
        self.assertEqual([e.kind for e in events if e.agent < 0], [ponder.EVENT_ANSWER, ponder.EVENT_DONE])
        self.assertEqual(events[-2].text, expected.answer)
        self.assertEqual((result.answer, result.decided_by), (expected.answer, expected.decided_by))
        self.assertEqual([a[:4] for a in result.agents], [a[:4] for a in expected.agents])

    def test_what_ends_it_leaves_the_session_as_it_was(self):
        class Mine(Exception):
            pass

        def fail(event):
            raise Mine()
        s = self.session(seed=5)
        self.assertRaises(Mine, s.contemplate, QUESTION, agents=5, on_event=fail)
        result = s.contemplate(agents=5, on_event=lambda event: True)
        self.assertEqual((result.answer, result.decided_by, result.status.end), ("", "cancelled", "cancelled"))
        for event in s.contemplation(agents=5):  # left early, and forgotten
            break
        gc.collect()
        self.assertEqual(s.contemplate(agents=5).answer, self.session(seed=5).contemplate(QUESTION, agents=5).answer)

    def test_another_thread_cancels(self):
        for of_session in (False, True):
            s, started = self.session(context=30000, max_tokens=0, ignore_eos=1), threading.Event()
            with s.contemplation(QUESTION, agents=3) as c:
                def cancel():
                    started.wait()
                    (s if of_session else c).cancel()
                thread = threading.Thread(target=cancel)
                thread.start()
                for _ in c:
                    started.set()
                thread.join()
                self.assertEqual((c.status().decided_by, c.answer), ("cancelled", ""))

    def test_an_interrupt_ends_it(self):
        s = self.session(context=30000, max_tokens=0, ignore_eos=1)

        def interrupt():
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)
        thread = threading.Thread(target=interrupt)
        thread.start()
        self.assertRaises(KeyboardInterrupt, s.contemplate, QUESTION, agents=3)
        thread.join()
        s.add("user", "x")  # it is free again

    def test_refusals_say_why(self):
        s = self.session()
        for options, text in (({"agents": 2}, "two agents in a plain vote"), ({"agents": 3, "temperature": 0}, "set a temperature")):
            with self.assertRaises(ponder.Error) as caught:
                s.contemplate(QUESTION, **options)
            self.assertEqual(caught.exception.status, ponder.E_ARGUMENT)
            self.assertIn(text, caught.exception.text)
        with self.assertRaises(ponder.Error) as caught:
            self.session().contemplate(agents=3)
        self.assertEqual((caught.exception.status, caught.exception.text), (ponder.E_STATE, "nothing was asked: add a message first"))
        self.assertRaises(TypeError, s.contemplate, QUESTION, agent=3)

    def test_the_sessions_options_and_roles(self):
        s = self.session(think_tokens=5)
        result = s.contemplate(LONG, agents=2, temperature=0, synthesis="confidence", role=["Add 12+99", "Add 861+524"])
        self.assertLessEqual(max(a.status.thought_tokens for a in result.agents), 5)
        self.assertEqual(len(result.agents), 2)

    def test_functions_answer_calls(self):
        got = []

        def lamp(on: bool) -> str:
            got.append(on)
            return "it is"
        s = self.session(context=4096, strict_tools=1)
        s.tools([ponder.Tool(lamp, name="lamp.set")])
        s.prompt("<|begin_of_text|><|start|>user<|message|>Light!<|eot|><|start|>assistant to=lamp.set<|message|>", special=True)
        events = []
        try:
            s.contemplate(agents=3, on_event=events.append)
        except ponder.Error as error:  # the small model need not come to an answer
            self.assertEqual(error.text, "no agent came to an answer")
        calls = [e for e in events if e.kind == ponder.EVENT_TOOL_CALL]
        self.assertEqual({e.agent for e in calls}, {0, 1, 2})
        self.assertEqual(got, [e.arguments["on"] for e in calls])


if __name__ == "__main__":
    unittest.main()

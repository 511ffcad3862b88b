"""The Python layer over the real library. Run by check.sh; expected values come from tests/data/seed0 (transformers)."""
import json
import os
import threading
import unittest

import ponder
from ponder import _api
from ponder._lib import lib

SEED = os.path.join(os.environ["PONDER_TEST_DATA"], "seed0")
with open(os.path.join(SEED, "reference.json"), encoding="utf-8") as file:
    REFERENCE = {r["id"]: r for r in json.load(file)}


class Answer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = ponder.Model(SEED, threads=1, kv_type="f32")
        cls.ref = REFERENCE["compose-03"]
        cls.ids = cls.ref["prompt_ids"] + cls.ref["greedy_ids"]

    def session(self, **more):
        return self.model.session(context=512, temperature=0, template="muse", **more)

    def test_streams_the_reference_answer(self):
        with self.session() as s:
            s.prompt(self.ref["rendered"], special=True)
            events = list(s.events())
            self.assertEqual(s.tokens(), self.ids)
            self.assertGreater(len(events), 3)
            self.assertEqual((events[-1].kind, events[-1].end), (ponder.EVENT_DONE, ponder.END_EOS))
            self.assertEqual(events[-1].output_tokens, len(self.ref["greedy_ids"]))
            kinds = (ponder.EVENT_THOUGHT, ponder.EVENT_ANSWER)
            thought, answer = ("".join(e.text for e in events if e.kind == kind) for kind in kinds)
            self.assertEqual((thought, answer), ("1uH2pA3pC4rE5sA6rC", self.ref["expected"]))
            self.assertGreater(events[-1].thought_tokens, 0)
            self.assertLess(events[-1].thought_tokens, len(self.ref["greedy_ids"]))

    def test_message_is_rendered_as_the_template_does(self):
        with self.session(effort=self.ref["reasoning_strength"]) as s:
            text = "".join(s.ask(self.ref["messages"][0]["content"]))
            self.assertEqual(s.tokens(), self.ids)
            self.assertEqual(text, self.ref["expected"])

    def test_generate_with_a_callback_gives_the_same(self):
        with self.session() as s:
            s.prompt(self.ref["rendered"], special=True)
            pieces = []
            done = s.generate(lambda e: pieces.append(e.text))
            self.assertEqual(s.tokens(), self.ids)
            self.assertEqual(done.end, ponder.END_EOS)

    def test_exception_in_a_callback_ends_the_turn_and_arrives(self):
        class Mine(Exception):
            pass

        def fail(_):
            raise Mine()
        with self.session() as s:
            s.prompt(self.ref["rendered"], special=True)
            self.assertRaises(Mine, s.generate, fail)
            self.assertLess(len(s.tokens()), len(self.ids))

    def test_leaving_the_loop_cancels_and_the_session_lives(self):
        with self.session() as s:
            s.prompt(self.ref["rendered"], special=True)
            for _ in s.events():
                break
            s.rewind(0)
            s.prompt(self.ref["rendered"], special=True)
            s.generate()
            self.assertEqual(s.tokens(), self.ids)

    def test_fork_save_and_load(self):
        with self.session() as s:
            s.prompt_ids(self.ref["prompt_ids"][:-1])
            s.eval([self.ref["prompt_ids"][-1]])
            with s.fork() as f, self.session() as other:
                other.load(s.save())
                self.assertEqual(f.tokens(), self.ref["prompt_ids"])
                self.assertEqual(other.tokens(), self.ref["prompt_ids"])
                self.assertEqual(list(f.logits()), list(other.logits()))

    def test_logits_are_the_reference(self):
        with self.session() as s:
            logits, _ = s.eval(self.ref["prompt_ids"], vocab=self.model.vocab)
            expected = self.ref["logits_after_prompt"]
            self.assertEqual(len(expected), self.model.vocab)
            for got, want in zip(logits[len(self.ref["prompt_ids"]) - 1], expected):
                self.assertAlmostEqual(float(got), want, delta=3e-4)
            self.assertEqual(len(s.logits()), self.model.vocab)

    def test_two_threads_use_one_model(self):
        results = []

        def work():
            with self.session() as s:
                s.prompt(self.ref["rendered"], special=True)
                s.generate()
                results.append(s.tokens())
        threads = [threading.Thread(target=work) for _ in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(results, [self.ids, self.ids])

    def test_tokenizer(self):
        with self.model.tokenizer() as t:
            self.assertEqual(t.encode(self.ref["rendered"], special=True), self.ref["prompt_ids"])
            self.assertEqual(t.decode(self.ref["prompt_ids"], special=True), self.ref["rendered"])
            self.assertNotIn(self.ref["prompt_ids"][0], t.encode("<|begin_of_text|>"))


class Failures(unittest.TestCase):
    def test_status_and_text_arrive(self):
        with self.assertRaises(ponder.Error) as caught:
            ponder.Model("no such file.gguf")
        self.assertEqual((caught.exception.status, caught.exception.name), (ponder.E_IO, "PONDER_E_IO"))
        self.assertIn("no such file.gguf", caught.exception.text)
        with self.assertRaises(ponder.Error) as caught:
            ponder.Config(threads=-1)
        self.assertEqual(caught.exception.name, "PONDER_E_RANGE")
        self.assertIn("threads", caught.exception.text)

    def test_options_live_until_they_are_read(self):
        """configure's own config must not be collected before the call."""
        with ponder.Model(SEED, threads=1) as model, model.session(context=64) as s:
            for _ in range(20):
                s.configure(stop="a string to stop at", regex="[a-z]{3}", effort="medium")
                s.configure(regex="")

    def test_closed_handles_are_refused(self):
        config = ponder.Config()
        config.close()
        config.close()
        self.assertRaises(ValueError, config.set_threads, 1)

    def test_table_agrees_with_the_generated_setters(self):
        table = {row["name"]: (row["id"], row["type"]) for row in ponder.params()}
        for name, id, kind in _api.PARAMS:
            self.assertEqual(table.get(name), (id, kind), name)
        self.assertEqual(len(table), len(_api.PARAMS))
        for value, name in _api.STATUS_NAMES.items():
            self.assertEqual(lib.ponder_status_name(value).decode(), name)


if __name__ == "__main__":
    unittest.main()

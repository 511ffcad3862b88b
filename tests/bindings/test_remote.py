"""Remote models in Python, from a server in this process. Run by check.sh."""
import http.server
import json
import threading
import unittest

import ponder


class Server(http.server.BaseHTTPRequestHandler):
    """One model that thinks "Hm." and answers "Yes, sir."; what it was asked is kept."""
    asked = []

    def reply(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply("application/json", json.dumps({"object": "list", "data": [{"id": "tiny", "max_model_len": 4096}]}).encode())

    def do_POST(self):
        self.asked.append((self.headers["Authorization"], json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        deltas = [{"reasoning_content": "Hm."}, {"content": "Yes, "}, {"content": "sir."}]
        chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
                       "usage": {"prompt_tokens": 7, "completion_tokens": 5}})
        self.reply("text/event-stream", b"".join(b"data: " + json.dumps(c).encode() + b"\n\n" for c in chunks) + b"data: [DONE]\n\n")

    def log_message(self, *_):
        pass


class Remote(unittest.TestCase):
    def setUp(self):
        del Server.asked[:]
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
        self.url = "http://127.0.0.1:%d" % self.server.server_port
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(self.server.shutdown)

    def test_a_turn(self):
        with ponder.Model.remote([self.url], remote_key="secret") as model, model.session(temperature=0.5, max_tokens=9) as s:
            self.assertEqual(model.info(ponder.INFO_NAME), "tiny")
            s.add("user", "Well?")
            events = list(s.events())
            self.assertEqual([(e.kind, e.text, e.agent) for e in events[:-1]],
                             [(ponder.EVENT_THOUGHT, "Hm.", -1), (ponder.EVENT_ANSWER, "Yes, ", -1), (ponder.EVENT_ANSWER, "sir.", -1)])
            self.assertEqual((events[-1].end, events[-1].output_tokens), (ponder.END_EOS, 5))
            self.assertEqual("".join(s.ask("Again?")), "Yes, sir.")
            with self.assertRaises(ponder.Error) as caught:
                s.logits()
            self.assertEqual(caught.exception.status, ponder.E_UNSUPPORTED)
            self.assertTrue(caught.exception.text)
        (key, first), (_, second) = Server.asked
        self.assertEqual((key, first["model"], first["temperature"], first["messages"]),
                         ("Bearer secret", "tiny", 0.5, [{"role": "user", "content": "Well?"}]))
        self.assertEqual([m["role"] for m in second["messages"]], ["user", "assistant", "user"])

    def test_a_vote(self):
        with ponder.Model.remote(self.url) as model, model.session(temperature=1, seed=4) as s:
            result = s.contemplate("Well?", agents=3, decide=0)
            self.assertEqual((result.answer, result.decided_by, result.status.votes), ("Yes, sir.", "all", 3))
            self.assertEqual([(a.answer, a.thought, a.tokens, a.confidence) for a in result.agents], [("Yes, sir.", "Hm.", 5, None)] * 3)
        self.assertEqual(sorted(body["seed"] for _, body in Server.asked), [4, 5, 6])

    def test_nobody_answers(self):
        self.server.shutdown()
        self.server.server_close()
        with self.assertRaises(ponder.Error) as caught:
            ponder.Model.remote(self.url, remote_retries=0, remote_key="secret")
        self.assertEqual(caught.exception.status, ponder.E_IO)
        self.assertIn(self.url, caught.exception.text)
        self.assertNotIn("secret", caught.exception.text)


if __name__ == "__main__":
    unittest.main()

import os
import select
import tempfile
import unittest

from processes import Process, end_all


class Processes(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.log = os.path.join(folder.name, "log")

    def shell(self, script):
        return Process(["/bin/sh", "-c", script], self.log)

    def test_waits_for_output_and_keeps_it(self):
        with self.shell("echo port 12; echo trouble >&2; exec sleep 60") as process:
            self.assertEqual(process.wait_for_output(r"port (\d+)\n", 10).group(1), "12")
            self.assertTrue(process.wait_for_output("trouble", 10))

    def test_waits_no_longer_than_the_process_lives(self):
        with self.shell("echo bye") as process:
            self.assertIsNone(process.wait_for_output("never said", 60))
            self.assertEqual(process.wait(10), 0)

    def test_gives_the_exit_code_of_a_stop(self):
        with self.shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done") as process:
            process.wait_for_output("ready", 10)
            self.assertEqual(process.stop(), 7)

    def test_gives_no_exit_code_when_the_time_is_over(self):
        with self.shell("exec sleep 60") as process:
            self.assertIsNone(process.wait(0))

    def test_ends_what_a_process_started_even_if_it_ignores_sigterm(self):
        # both processes hold the pipe open: its end is read when the last of them is gone
        held, holder = os.pipe()
        self.addCleanup(os.close, held)
        stubborn = "(trap '' TERM; echo ready; while :; do sleep 0.02; done) & exec sleep 60"
        with Process(["/bin/sh", "-c", stubborn], self.log, pass_fds=[holder]) as process:
            os.close(holder)
            process.wait_for_output("ready", 10)
            self.assertEqual(select.select([held], [], [], 0)[0], [])
        self.assertEqual(select.select([held], [], [], 10)[0], [held])
        self.assertEqual(os.read(held, 1), b"")

    def test_ends_all(self):
        process = self.shell("exec sleep 60")
        end_all()
        self.assertIsNotNone(process.popen.poll())


if __name__ == "__main__":
    unittest.main()

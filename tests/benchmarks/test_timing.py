"""Timings side by side: every call once a round, in turn."""

import time

from convzoo.benchmarks.timing import time_alternating


def test_calls_take_turns_and_keep_their_own_times():
    made = []

    def call(name, seconds):
        def function():
            made.append(name)
            time.sleep(seconds)

        return function

    seconds = time_alternating({"a": call("a", 0.01), "b": call("b", 0.0), "c": call("c", 0.05)}, rounds=3)
    assert made == [*"abc", *"cba", *"abc"]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "c": 3}
    assert min(seconds["a"]) >= 0.01
    assert min(seconds["c"]) >= 0.05
    assert min(seconds["b"]) < 0.01


def test_the_clock_of_the_cpu_does_not_count_waiting():
    seconds = time_alternating({"a": lambda: time.sleep(0.2)}, rounds=2, clock=time.process_time)
    assert max(seconds["a"]) < 0.1

"""Orphans are adopted, collected, and killed with those that have started them; in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]

BEGIN = """
import os, signal, subprocess, sys, time
from pipeline.supervisor.orphans import MARK, Orphans

orphans = Orphans()

def start(shell, mark="", **options):
    "A child that prints a pid; that pid."
    child = subprocess.Popen(["sh", "-c", shell], stdout=subprocess.PIPE, env={**os.environ, MARK: mark}, **options)
    return child, int(child.stdout.readline())

def state(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"

def until(condition):
    while not condition():
        orphans.sweep(own)
        time.sleep(0.005)
"""


def run(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", BEGIN + program], cwd=ROOT, timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_dead_are_collected_and_no_status_of_an_own_child_is() -> None:
    run(
        "child, orphan = start('sleep 0.2 & echo $!; exit 7')\n"
        "own = {child.pid}\n"
        "time.sleep(0.4)\n"
        "assert state(orphan) == 'Z' and state(child.pid) == 'Z'\n"
        "orphans.sweep(own)\n"
        "assert child.wait() == 7\n"
        "until(lambda: state(orphan) == 'gone')\n"
        "orphans.close()\n"
    )


def test_the_living_are_killed_with_the_child_that_has_started_them_and_no_others() -> None:
    run(
        "long = 'sleep 3600 >&2 & echo $!'\n"
        "one, same_session = start(long, 'run/1', start_new_session=True)\n"
        "two, spared = start(long, 'run/2', start_new_session=True)\n"
        "three, by_mark = start('setsid sh -c \"' + long.replace('$', chr(92) + '$') + '\"', 'run/1', start_new_session=True)\n"
        "four, longer = start(long, 'run/11', start_new_session=True)\n"
        "own = set()\n"
        "for child in (one, two, three, four):\n"
        "    child.wait()\n"
        "assert {state(pid) for pid in (same_session, spared, by_mark, longer)} <= {'S', 'R'}\n"
        "orphans.sweep(own)\n"
        "orphans.died(one.pid, 'run/1')\n"
        "until(lambda: state(same_session) == state(by_mark) == 'gone')\n"
        "orphans.sweep(own)\n"
        "assert {state(spared), state(longer)} <= {'S', 'R'}\n"
        "orphans.close()\n"
        "assert state(spared) == state(longer) == 'gone'\n"
    )


def test_a_new_child_with_the_pid_of_a_dead_one_is_another() -> None:
    run(
        "child, orphan = start('sleep 3600 >&2 & echo $!', start_new_session=True)\n"
        "child.wait()\n"
        "own = set()\n"
        "orphans.died(child.pid, 'run/1')\n"
        "orphans.born(child.pid)\n"
        "orphans.sweep(own)\n"
        "time.sleep(0.05)\n"
        "assert state(orphan) != 'Z' and state(orphan) != 'gone'\n"
        "orphans.close()\n"
        "assert state(orphan) == 'gone'\n"
    )


def test_children_of_the_killed_are_killed_as_well() -> None:
    run(
        "tree = 'sh -c \"sleep 3600 & sleep 3600 & wait\" >&2 & echo $!'\n"
        "child, top = start(tree, 'run/1', start_new_session=True)\n"
        "child.wait()\n"
        "own = set()\n"
        "until(lambda: subprocess.run(['pgrep', '-cP', str(top)], capture_output=True).stdout.strip() == b'2')\n"
        "below = subprocess.run(['pgrep', '-P', str(top)], capture_output=True, text=True).stdout.split()\n"
        "orphans.died(child.pid, 'run/1')\n"
        "until(lambda: {state(pid) for pid in (top, *below)} == {'gone'})\n"
        "orphans.close()\n"
    )


def test_a_kernel_that_keeps_no_lists_of_children_is_asked_for_all_processes() -> None:
    run(
        "from pathlib import Path\n"
        "real = Path.read_text\n"
        "def read_text(path):\n"
        "    if path.name == 'children':\n"
        "        raise FileNotFoundError(2, 'No such file or directory')\n"
        "    return real(path)\n"
        "Path.read_text = read_text\n"
        "child, orphan = start('sleep 3600 >&2 & echo $!', 'run/1', start_new_session=True)\n"
        "child.wait()\n"
        "own = set()\n"
        "orphans.died(child.pid, 'run/1')\n"
        "until(lambda: state(orphan) == 'gone')\n"
        "orphans.close()\n"
    )

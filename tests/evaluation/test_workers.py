"""Processes beside a command, and Ctrl-C."""

import os
import signal
import subprocess
import sys
import time

import pytest

WORK = """
import time
from kitsam.evaluation.workers import case_workers

if __name__ == "__main__":
    try:
        with case_workers(2, 2) as pool:
            futures = [pool.submit(time.sleep, 1) for _ in range(2)]
            print("at work", flush=True)
            for future in futures:
                future.result()
    except KeyboardInterrupt:
        print("broken off", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows cannot block a signal")
@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.8])
def test_ctrl_c_ends_the_command_and_no_worker_says_a_word(tmp_path, seconds):
    script = tmp_path / "work.py"
    script.write_text(WORK)
    command = [sys.executable, str(script)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "at work\n"
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("broken off\n", "", 0)

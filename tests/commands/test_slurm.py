"""The sbatch file, run by bash with stand-ins for srun and scontrol; and submitit without a cluster."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import moving_square, write_video
from test_cli import CONFIG, said

from vidssl.cli import main
from vidssl.commands.slurm import SlurmOptions, Training, sbatch

# Starts a process per task, tells each its rank as SLURM does, hands signals on, and ends with the highest code.
SRUN = """#!{python}
import json, os, signal, subprocess, sys
from pathlib import Path
folder = Path(os.environ["STAND_IN"])
words = [word for word in sys.argv[1:] if word != "--kill-on-bad-exit=1"]
if not (num_tasks := int(os.environ["NUM_TASKS"])):
    (folder / "argv.json").write_text(json.dumps(words))
    sys.exit()
tasks = []
for rank in map(str, range(num_tasks)):
    told = {{"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "SLURM_NTASKS": str(num_tasks)}}
    tasks.append(subprocess.Popen(words, env={{**os.environ, **told}}))
signal.signal(signal.SIGUSR1, lambda number, frame: [task.send_signal(number) for task in tasks])
(folder / "step").write_text(str(os.getpid()))
codes = [task.wait() for task in tasks]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""
SCONTROL = """#!/bin/bash
case "$1" in
    show) echo 127.0.0.1; echo 127.0.0.2 ;;
    requeue) echo "$2" >> "$STAND_IN/requeued" ;;
esac
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Path:
    """A folder whose programs stand for those of SLURM, and an empty folder to work in."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("srun", SRUN.format(python=sys.executable)), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN", str(folder))
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node[1-2]")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/beside.py").write_text("WIDTH = 8\n")
    (tmp_path / "own/queued_config.py").write_text(CONFIG)
    for number in range(8):
        write_video(tmp_path / "videos" / f"{number}.mp4", moving_square(12, seed=number))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    for name in ("queued_config", "beside"):
        sys.modules.pop(name, None)


def steps(out: Path) -> list[int]:
    path = out / "metrics.jsonl"
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []


def test_a_job_is_stopped_saved_queued_again_and_goes_on(cluster, monkeypatch, capsys):
    words = ["own/queued_config.py", "--root", "videos", "--out", "a run", "--steps", "80"]
    fixed = ["--num-workers", "0", "--log-every", "1", "--save-every", "1000", "--device", "cpu"]
    assert main(["slurm", *words, *fixed, "--hours", "12"]) == 0
    assert "`sbatch 'a run.sbatch'` submits it" in said(capsys)
    text = Path("a run.sbatch").read_text()
    for line in ("ntasks-per-node=1", "gpus-per-node=1", "time=720", "signal=USR1@300", "requeue", "nodes=1"):
        assert f"\n#SBATCH --{line}\n" in text
    monkeypatch.setenv("NUM_TASKS", "1")  # with two it takes twice as long; it works
    job = subprocess.Popen(["bash", "a run.sbatch"])
    while not steps(Path("a run")):
        assert job.poll() is None
        time.sleep(0.01)
    os.kill(int((cluster / "step").read_text()), signal.SIGUSR1)  # as SLURM does, before the time is over
    assert job.wait(300) == 138
    assert (cluster / "requeued").read_text() == "4711\n"
    done = len(steps(Path("a run")))
    assert 0 < done < 80 and [path.name for path in Path("a run/checkpoints").glob("step_*")][-1:] != []
    assert (Path("a run/checkpoints") / f"step_{done:08d}").is_dir()
    assert subprocess.run(["bash", "a run.sbatch"]).returncode == 0  # as it is queued again
    assert steps(Path("a run")) == list(range(1, 81))
    assert (cluster / "requeued").read_text() == "4711\n"  # done: not again


def test_a_job_that_fails_is_not_queued_again(cluster, monkeypatch):
    monkeypatch.setenv("NUM_TASKS", "1")
    text = sbatch(["absent.py", "--root", "videos"], SlurmOptions(), name="x")
    assert subprocess.run(["bash", "-c", text]).returncode == 2
    assert not (cluster / "requeued").exists()


def test_names_are_words_and_never_commands(cluster, monkeypatch):
    nasty = [
        "a b; touch pwned",
        "$(touch pwned)",
        "`touch pwned`",
        "'\"; touch pwned #",
        "x\ntouch pwned\n",
        "--",
        "*",
    ]
    job = SlurmOptions(gpus=0, nodes=3)
    text = sbatch(["own/queued_config.py", *nasty], job, name="x\ntouch pwned\n;$(touch pwned)")
    assert "#SBATCH --job-name=x_touch_pwned____touch_pwned_\n" in text and "gpus-per-node" not in text
    monkeypatch.setenv("NUM_TASKS", "0")
    subprocess.run(["bash"], input=text, text=True, check=True)
    words = json.loads((cluster / "argv.json").read_text())
    expected = [sys.executable, "-m", "vidssl.cli", "pretrain", "own/queued_config.py", *nasty]
    assert words[-len(expected) :] == expected and words[:2] == ["bash", "-c"]
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (["--partition", "x\ntouch pwned"], "expected letters, digits and"),
        (["--account", "$(id)"], "--account is '$(id)', expected letters"),
        (["--gpus", "-1"], "--gpus is -1, expected at least 0"),
        (["--restart"], "--restart would begin anew each time the job is queued again"),
    ],
)
def test_what_a_job_cannot_be(cluster, capsys, options, answer):
    assert main(["slurm", "own/queued_config.py", "--root", "videos", *options]) == 2
    assert answer in said(capsys)
    assert not list(Path().glob("**/*.sbatch"))


def test_options_of_the_training_are_looked_at_before_the_job_waits(cluster, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["slurm", "own/queued_config.py", "--root", "videos", "--nodes", "2", "--stepz", "4"])
    assert "--stepz" in said(capsys)


def test_submitit_is_asked_for_by_its_extra(cluster, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert main(["slurm", "own/queued_config.py", "--root", "videos", "--submit"]) == 2
    assert "pip install 'vidssl[submitit]'" in said(capsys)


def test_submitit_runs_the_training_under_its_rank(cluster, tmp_path):
    submitit = pytest.importorskip("submitit", reason="the extra submitit is not installed")
    script = tmp_path / "training.py"
    script.write_text(
        "import os\n"
        "names = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR')\n"
        "print(*(os.environ[name] for name in names), file=open('told', 'w'))\n"
    )
    executor = submitit.LocalExecutor(folder=tmp_path / "jobs")
    executor.update_parameters(timeout_min=5)
    assert executor.submit(Training([sys.executable, str(script)])).result() is None
    assert Path("told").read_text() == f"0 0 1 {os.uname().nodename}\n"
    failing = executor.submit(Training([sys.executable, "-c", "raise SystemExit(3)"]))
    assert "ended with code 3" in str(failing.exception())


def test_submitit_stops_the_training_and_submits_it_again(cluster, tmp_path):
    pytest.importorskip("submitit", reason="the extra submitit is not installed")
    training = Training([sys.executable, "-c", "anything"])
    saving = "import signal, time; signal.signal(signal.SIGUSR1, lambda *_: exit(138)); print('x', flush=True)"
    code = f"{saving}; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        training.process = process
        again = training.checkpoint()
        assert process.poll() == 138  # it waited for the end
    assert again.function.command == training.command and again.function.process is None

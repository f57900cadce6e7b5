"""What made-up jobs tell beyond themselves: the states of their tasks, hints, failures."""

from __future__ import annotations

from cupola.models.job import TaskFailure, TaskFailureGroup, TaskGrid

HINT = 'A task used at most 412 MiB of the 1,024 MiB asked for: ask for memory="512 MiB" and more tasks may run at a time.'


def grid(found):
    tasks, counts = found.tasks, found.counts
    runs = [("done", counts.done), ("failed", counts.failed), ("running", counts.running)]
    rest = tasks - sum(length for _, length in runs)
    waits = "held" if found.state == "held" else "queued"
    runs.append((waits if found.state.active else "cancelled", rest))
    more = {}
    if found.state == "running":
        more = {"per_minute": 760.0, "seconds_left": 310.0, "cores_used": 0.9, "hints": [HINT]}
    return TaskGrid(tasks=tasks, runs=[run for run in runs if run[1]], **more)


def failures(found):
    if not found.counts.failed:
        return []
    example = TaskFailure(
        input=41,
        label="M1234567_red.cub",
        error="ValueError",
        message="operands could not be broadcast together with shapes (512,512) (512,511)",
        line="crater_count:17: return image - background",
        traceback='Traceback (most recent call last):\n  File "<your function>", line 17, in crater_count\n    return image - background\n'
        "           ~~~~~~^~~~~~~~~~~~\nValueError: operands could not be broadcast together with shapes (512,512) (512,511)\n",
        task=41,
    )
    count = found.counts.failed
    return [
        TaskFailureGroup(
            error=example.error,
            line=example.line,
            example=example,
            inputs=list(range(41, 41 + count)),
            count=count,
        )
    ]

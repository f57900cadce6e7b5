"""Whatever happens to a notebook, in whatever order: nothing is lost, and nothing comes back that somebody removed."""

import json
import shutil
import tempfile
import uuid

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from cupola.lab.guardian.documents import contents as documents
from support.homes import Home, cell, text
from support.journals import asked


class Life(RuleBasedStateMachine):
    """A notebook's life: its owner, a page that hears all or nothing, a server that is killed, a kernel that goes on."""

    @initialize()
    def begin(self):
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr(documents, "AFTER_SAVE_S", -1)
        self.folder = tempfile.mkdtemp()
        self.home = Home(self.folder)
        self.home.write(*(cell(f"c{number}", f"source {number}") for number in range(3)))
        self.page = self.home.content()
        self.wanted = {f"c{number}": "" for number in range(3)}
        """What must be there, and nothing else."""
        self.running = {}
        self.number = 0

    def teardown(self):
        self.home.close()
        self.patches.undo()
        shutil.rmtree(self.folder)

    def cells(self):
        return {one["id"]: one for one in self.page["cells"]}

    @rule(name=st.sampled_from(["c0", "c1", "c2"]), connected=st.booleans(), at_once=st.booleans())
    def run(self, name, connected, at_once):
        if name not in self.wanted or name not in self.cells() or self.running:
            return
        self.number += 1
        execution = uuid.uuid4().hex
        self.home.ledger.note(asked(execution, cell=name, code=self.cells()[name]["source"]))
        self.home.kernel.begin(execution)
        self.running = {name: execution}
        self.cells()[name].update(outputs=[], execution_count=None)
        self.wanted[name] = ""
        self.speak()
        if at_once:
            self.finish(connected)

    @precondition(lambda self: self.running)
    @rule()
    def speak(self):
        for name, execution in self.running.items():
            self.home.kernel.print(execution, f"{execution} says {self.number}\n")
            if name in self.wanted:
                self.wanted[name] += f"{execution} says {self.number}\n"
            self.number += 1

    @precondition(lambda self: self.running)
    @rule(connected=st.booleans())
    def finish(self, connected):
        for name, execution in self.running.items():
            self.home.kernel.finish(execution)
            self.home.ledger.poll()
            if connected and name in self.cells():
                one = self.home.ledger.executions[execution]
                self.cells()[name].update(outputs=one.fold.copy(), execution_count=one.count)
        self.running = {}

    @rule()
    def save(self):
        self.home.save(json.loads(json.dumps(self.page)))

    @rule()
    def reload(self):
        """Another page, or the same one loaded anew; what was not saved of the text is gone."""
        self.page = self.home.content()
        self.check()

    @rule(name=st.sampled_from(["c0", "c1", "c2"]))
    def clear(self, name):
        """The owner clears what the page shows; only what is there can be cleared."""
        found = self.cells().get(name)
        if found and not self.running and text(found) == self.wanted.get(name):
            found.update(outputs=[], execution_count=None)
            self.home.save(json.loads(json.dumps(self.page)))
            # The page had received it: so it says.
            done = [one.id for one in self.home.ledger.begun_of("a.ipynb") if one.cell == name]
            self.home.contents.settle("a.ipynb", done)
            self.wanted[name] = ""

    @rule(name=st.sampled_from(["c0", "c1", "c2"]))
    def edit(self, name):
        if name in self.cells():
            self.cells()[name]["source"] += " edited"

    @rule()
    def move(self):
        self.page["cells"].reverse()

    @rule(name=st.sampled_from(["c2"]))
    def delete(self, name):
        if name in self.cells():
            self.page["cells"] = [one for one in self.page["cells"] if one["id"] != name]
            self.home.save(json.loads(json.dumps(self.page)))
            self.wanted.pop(name, None)

    @rule()
    def restart_server(self):
        self.home.start()

    @rule()
    def keep(self):
        self.home.contents._written.clear()
        self.home.keep()

    @rule()
    def cut(self):
        self.home.kernel.next_segment()
        self.home.ledger.poll()
        self.home.ledger.cut(after=-1)

    @rule()
    def check(self):
        found = {one["id"]: text(one) for one in self.home.content()["cells"]}
        assert found == self.wanted


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

"""What containers stand on, as far as it can be looked at without an engine."""

from __future__ import annotations

import docker.errors
import pytest

from cupola.config import Config
from cupola.containers.making import container_settings
from cupola.exceptions import StartError, UnavailableError
from cupola.hub.containers import ground
from cupola.hub.containers.cgroups import MemoryGroup, MemoryUse
from cupola.hub.containers.ends import why_not_started, write_log
from cupola.hub.containers.engine import engine_client
from cupola.hub.containers.firewall import Firewall
from cupola.hub.containers.network import keep, known
from cupola.hub.drivers.base import NotStartedError
from cupola.hub.shutdown import Leftovers
from cupola.models.containers import SessionNetwork
from cupola.models.resources import Resources
from cupola.models.session import ContainerPlan, EndCause, SessionEnd

NETWORK = SessionNetwork(
    key="0a1b2c3d",
    host="unix:///nowhere/docker.sock",
    name="cupola-0a1b2c3d",
    bridge="cup-0a1b2c3d",
    gateway="192.0.2.1",
    subnet="192.0.2.0/24",
    door=4711,
)


@pytest.fixture
def plan(tmp_path):
    return ContainerPlan(
        name="cupola-0a1b2c3d-lab-1",
        image="sha256:" + "a" * 64,
        command=["run"],
        environment={},
        user=20001,
        group=20001,
        groups=[20002],
        folder="/home/ada",
        mounts=[
            {"source": "/data/x", "target": "/volumes/x", "read_only": True, "follow": True},
            {"source": "/state/homes/ada", "target": "/home/ada"},
        ],
        resources=Resources(cores=1.5, memory_mib=512, gpus=2),
        gpus=[1, 3],
        processes=100,
        scratch_mib=64,
        network="cupola-0a1b2c3d",
        publish=True,
        log=tmp_path / "log" / "lab-1.log",
    )


def test_nothing_is_left_to_the_engines_defaults(plan):
    api = docker.APIClient(base_url="unix:///nowhere/docker.sock", version="1.41")
    try:
        told = container_settings(api, plan, {"A": "1"}, {"cupola.session": "lab-1"})
    finally:
        api.close()
    host = told["HostConfig"]
    assert told["Image"] == plan.image
    assert told["User"] == "20001:20001"
    assert told["Hostname"] == "lab-1"
    assert told["Entrypoint"] == []
    assert host["NanoCpus"] == 1_500_000_000
    assert host["Memory"] == host["MemorySwap"] == 512 * 2**20
    assert host["PidsLimit"] == 100
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["GroupAdd"] == ["20002"]
    assert host["NetworkMode"] == plan.network
    assert host["PortBindings"] == {"8888/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
    assert host["DeviceRequests"][0]["DeviceIDs"] == ["1", "3"]
    assert not host.get("Privileged")
    assert "nosuid" in host["Tmpfs"]["/tmp"]  # noqa: S108 - in the container
    # The home first: what is mounted in it needs it to be there.
    assert [mount["Target"] for mount in host["Mounts"]] == ["/home/ada", "/volumes/x"]
    assert [mount["ReadOnly"] for mount in host["Mounts"]] == [False, True]
    assert host["Mounts"][1]["BindOptions"]["Propagation"] == "rslave"


def test_an_internal_session_publishes_nothing(plan):
    api = docker.APIClient(base_url="unix:///nowhere/docker.sock", version="1.41")
    try:
        told = container_settings(api, plan.model_copy(update={"publish": False}), {}, {})
    finally:
        api.close()
    assert not told["HostConfig"].get("PortBindings")


def test_the_rules_let_in_the_door_and_refuse_the_rest():
    rules = Firewall(NETWORK, allow=["10.20.0.0/16"], block=["192.0.2.128/25"], name_servers=["10.0.0.53"])
    assert rules.host_rules[0].endswith("RELATED,ESTABLISHED -j ACCEPT")
    assert "--dport 4711" in rules.host_rules[1]
    assert rules.host_rules[-1].startswith("-j REJECT")
    out = rules.out_rules
    allowed, refused = (
        out.index("-d 10.20.0.0/16 -j RETURN"),
        [place for place, rule in enumerate(out) if "REJECT" in rule],
    )
    assert allowed < min(refused)
    assert {rule.split()[1] for rule in out if "REJECT" in rule} == {
        "192.0.2.128/25",
        "169.254.0.0/16",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
    }
    inner = Firewall(NETWORK.model_copy(update={"internal": True}), name_servers=["10.0.0.53"])
    assert inner.out_rules[1:] == ["-j REJECT --reject-with icmp-port-unreachable"]
    assert "53" not in " ".join(inner.host_rules)


@pytest.mark.parametrize("new", [False, True])
def test_memory_is_read_from_either_layout_of_control_groups(tmp_path, new):
    proc, root, identity = tmp_path / "proc", tmp_path / "cgroup", "c" * 64
    (proc / "42").mkdir(parents=True)
    line = f"0::/docker/{identity}\n" if new else f"9:memory:/docker/{identity}\n0::/docker/{identity}\n"
    (proc / "42" / "cgroup").write_text(line)
    folder = root / "docker" / identity if new else root / "memory" / "docker" / identity
    folder.mkdir(parents=True)
    names = (
        ("memory.current", "memory.stat", "inactive_file", "memory.events")
        if new
        else ("memory.usage_in_bytes", "memory.stat", "total_inactive_file", "memory.oom_control")
    )
    (folder / names[0]).write_text(f"{300 * 2**20}\n")
    (folder / names[1]).write_text(f"cache 1\n{names[2]} {100 * 2**20}\n")
    (folder / names[3]).write_text("under_oom 0\noom_kill 2\n")
    group = MemoryGroup.of(42, identity, proc=proc, root=root)
    assert group.look() == MemoryUse(used_mib=200, kills=2)
    (folder / names[0]).unlink()
    assert group.look() is None, "it has just ended"
    assert MemoryGroup.of(42, identity, proc=proc, root=root) is None
    assert MemoryGroup.of(43, identity, proc=proc, root=root) is None
    assert MemoryGroup.of(42, "d" * 64, proc=proc, root=root) is None, "another container's"


@pytest.mark.parametrize(
    ("said", "cause", "words"),
    [
        ("No such image: sha256:abc", EndCause.NO_IMAGE, "cupola build"),
        ("mkdir /x: no space left on device", EndCause.QUOTA, "full"),
        ("write /x: disk quota exceeded", EndCause.QUOTA, "full"),
        (
            "invalid mount config: bind source path does not exist: /data/x",
            EndCause.REFUSED,
            "/data/x is not there",
        ),
        ('could not select device driver "" with capabilities: [[gpu]]', EndCause.REFUSED, "GPUs"),
        ("something else\nwith lines.", EndCause.REFUSED, "something else; try again"),
    ],
)
def test_what_an_engine_refuses_becomes_one_sentence(plan, said, cause, words):
    told = why_not_started(docker.errors.APIError("500", explanation=said), plan)
    assert told.end.cause is cause
    assert words in str(told)
    assert "\n" not in str(told)
    again = NotStartedError("as it is", SessionEnd(cause=EndCause.TIMEOUT))
    assert why_not_started(again, plan) is again


def test_the_last_output_is_never_written_through_a_link(plan, tmp_path):
    write_log(plan.log, ["one", "two"])
    assert plan.log.read_text() == "one\ntwo\n"
    other = tmp_path / "other"
    other.write_text("mine")
    plan.log.unlink()
    plan.log.symlink_to(other)
    write_log(plan.log, ["three"])
    assert other.read_text() == "mine"
    write_log(tmp_path / "empty.log", [])
    assert not (tmp_path / "empty.log").exists()


def test_an_engine_that_is_not_there_is_said_with_the_way_out(tmp_path):
    with pytest.raises(UnavailableError, match=r"docker\.host") as caught:
        engine_client(f"unix://{tmp_path}/docker.sock")
    assert "\n" not in str(caught.value)


def test_who_is_not_root_is_told_before_anything_is_made(tmp_path, monkeypatch):
    config = Config(state=tmp_path, compute="docker")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "root" in ground.problem(config)
    with pytest.raises(StartError, match="compute: process"):
        ground.Ground(config).make_network()
    assert known(config.paths) is None


def test_what_may_still_run_keeps_its_rules_and_is_told(tmp_path):
    paths = Config(state=tmp_path, compute="docker").paths
    paths.network.parent.mkdir(parents=True)
    assert Leftovers.find(paths).network is None
    keep(paths, NETWORK)
    left = Leftovers.find(paths)
    assert left.network == NETWORK
    assert left.containers == []
    said = []
    left.stop(said.append)
    assert len(said) == 1
    assert "may run on" in said[0]
    assert known(paths) == NETWORK
    paths.network.write_text("{")
    assert known(paths) is None

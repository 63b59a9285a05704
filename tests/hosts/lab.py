"""Hosts on this machine: each a network, process, mount and host name of its own with a real sshd, joined by veth
pairs to one bridge, in a network that nothing outside of it can reach.

They share the file system, but for /tmp, /run, /dev/shm and root's home; the checkout is there even if it is in /tmp.
Needs root; nothing of it outlives `close`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
NETWORK = "10.77.0"
MAC = "02:00:0a:4d:00:"  # a host that starts again has the address that the others' caches have
HERE = f"{NETWORK}.254"  # of whoever uses the hosts
TIED = ("setpriv", "--pdeathsig", "KILL")  # ends with whoever started it, however that ends
HOST = """
set -e
hostname {name}
exec 9<{checkout}
for folder in /tmp /run /dev/shm; do mount -t tmpfs tmpfs $folder; done
[ -e {checkout} ] || {{ mkdir -p {checkout}; mount --no-canonicalize --bind /proc/self/fd/9 {checkout}; }}
exec 9<&-
mkdir -p /run/sshd /run/home; touch /run/home/.bashrc; chmod 1777 /tmp /dev/shm
mount --bind {lab}/hosts /etc/hosts
mount --bind {lab}/passwd /etc/passwd
ip link set lo up
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip addr add {address}/24 dev eth0
ip link set eth0 up
{extra}
exec /usr/sbin/sshd -D -e -f {lab}/sshd_config
"""
SSHD = """
Port 22
HostKey {lab}/host_key
AuthorizedKeysFile {lab}/key.pub
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
"""


def why_not() -> str | None:
    """Why hosts cannot be made here; None if they can."""
    for tool in ("ip", "unshare", "setpriv", "nsenter", "ssh", "rsync", "/usr/sbin/sshd"):
        if not shutil.which(tool):
            return f"{tool} is not installed (apt-get install openssh-server rsync iproute2 util-linux)"
    if os.geteuid() != 0:
        return "network namespaces with a bridge need root"
    probe = "ip link add br0 type bridge && ip link add probe0 type veth peer name probe1 && mount -t tmpfs tmpfs /run"
    done = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "sh", "-c", probe], capture_output=True)
    return f"namespaces are not allowed here: {done.stderr.decode().strip()}" if done.returncode else None


class Lab:
    def __init__(self, folder: Path, size: int):
        self.folder, self.size = folder, size
        folder.mkdir(parents=True, exist_ok=True)
        for key in ("key", "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        (folder / "sshd_config").write_text(SSHD.format(lab=folder))
        names = [f"{self.address(i)} host{i}" for i in range(size)]
        (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *names, ""]))
        users = Path("/etc/passwd").read_text()
        (folder / "passwd").write_text(users.replace(":/root:", ":/run/home:"))  # the interpreter may be in /root
        self._hosts: dict[int, subprocess.Popen] = {}
        bridge = f"ip link add br0 address {MAC}ff type bridge; ip addr add {HERE}/24 dev br0; ip link set br0 up"
        self._switch = subprocess.Popen(
            [*TIED, "unshare", "--net", "sh", "-c", f"ip link set lo up; {bridge}; exec sleep infinity"]
        )
        self._until(lambda: HERE in self.run("ip", "addr", check=False).stdout, "the bridge")
        for i in range(size):
            self.boot(i)

    def address(self, i: int) -> str:
        return f"{NETWORK}.{i + 1}"

    @property
    def addresses(self) -> list[str]:
        return [self.address(i) for i in range(self.size)]

    def boot(self, i: int, extra: str = "") -> None:
        """Start a host that does not run; `extra` is shell, run as it comes up."""
        script = HOST.format(name=f"host{i}", lab=self.folder, checkout=CHECKOUT, address=self.address(i), extra=extra)
        with open(self.folder / f"host{i}.log", "ab") as log:
            self._hosts[i] = subprocess.Popen(
                [*TIED, "unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child",
                 "--mount-proc", "--propagation", "private", "sh", "-c", script],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self._until(lambda: self._in_own_network(i), f"host{i}'s network")
        pid = str(self._hosts[i].pid)
        eth0 = ("name", "eth0", "address", f"{MAC}{i:02x}", "netns", pid)
        self.run("ip", "link", "add", f"host{i}", "type", "veth", "peer", *eth0)
        self.run("ip", "link", "set", f"host{i}", "master", "br0", "up")
        self._until(lambda: self.ssh(i, "true").returncode == 0, f"host{i}'s sshd")

    def kill(self, i: int) -> None:
        """All of a host's processes at once, and its network with them."""
        self._hosts[i].kill()
        self._hosts[i].wait()
        self.run("ip", "link", "delete", f"host{i}", check=False)  # the kernel takes its time

    def link(self, i: int, state: str) -> None:
        """`up` or `down`: a host's cable."""
        self.run("ip", "link", "set", f"host{i}", state)

    def command(self, *words: str | Path) -> list[str]:
        """A command, to be run in the hosts' network."""
        return ["nsenter", "-t", str(self._switch.pid), "--net", "--", *map(str, words)]

    def run(self, *words: str | Path, check: bool = True, **kwargs) -> subprocess.CompletedProcess:
        return subprocess.run(self.command(*words), check=check, capture_output=True, text=True, **kwargs)

    def ssh(self, i: int, command: str) -> subprocess.CompletedProcess:
        quiet = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        where = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-i", str(self.folder / "key")]
        return self.run("ssh", *quiet, *where, f"root@{self.address(i)}", command, check=False)

    def close(self) -> None:
        for i in list(self._hosts):
            self.kill(i)
        self._switch.send_signal(signal.SIGKILL)
        self._switch.wait()

    def _in_own_network(self, i: int) -> bool:
        ours, theirs = (os.stat(f"/proc/{pid}/ns/net").st_ino for pid in (os.getpid(), self._hosts[i].pid))
        return ours != theirs

    def _until(self, condition, what: str, seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            logs = [path.read_text() for path in self.folder.glob("host*.log")]
            assert time.monotonic() < deadline, f"{what} did not come up: {logs}"
            time.sleep(0.05)

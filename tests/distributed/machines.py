"""Machines on a slow network that loses packets: network namespaces, and a relay of packets between them in this process."""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import os
import random
import selectors
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.distributed.launch import ROOT, command, environment

_TUNSETIFF, _TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
_MTU = 9000
_IPV4 = 4


def missing() -> str | None:
    """Return the reason why there can be no machines here, None if there can."""
    if sys.platform != "linux" or os.geteuid() != 0 or not os.access("/dev/net/tun", os.W_OK):
        return "namespaces and their devices need Linux, root and /dev/net/tun"
    try:
        made = subprocess.run(["ip", "netns", "list"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        made = False
    return None if made else "there is no `ip netns`"


class Machines:
    """Some machines, each a network namespace with a device of its own; entered, they exchange packets.

    Parameters
    ----------
    count : int
    folder : Path
        For a launcher that starts programs on the machines, in the place of ssh.
    latency : float
        Seconds that a packet is under way.
    loss : float
        Share of packets that are lost.
    """

    def __init__(self, count: int, folder: Path, *, latency: float, loss: float) -> None:
        self.count, self.latency, self.loss = count, latency, loss
        self.relayed = self.lost = 0
        self._launcher = folder / "launch"
        self._launcher.write_text(
            '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\n'
            f'number="${{1##*.}}"; shift\nexec ip netns exec "{self._name("$number")}" sh -c "$*"\n'
        )
        self._launcher.chmod(0o755)
        self._devices: dict[int, int] = {}
        self._ends = threading.Event()
        self._relay = threading.Thread(target=self._carry, daemon=True)

    def run(self, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Run Python on one rank of each machine."""
        launcher, *ranks = command(self.count, *arguments)
        hosts = ",".join(_address(number) for number in range(1, self.count + 1))
        options = [
            "-localhost",
            _address(1),
            "-launcher",
            "ssh",
            "-launcher-exec",
            str(self._launcher),
            "-hosts",
            hosts,
        ]
        return subprocess.run(
            ["ip", "netns", "exec", self._name(1), launcher, *options, *ranks],
            env={
                **environment(),
                "UCX_TLS": "tcp",
                "UCX_NET_DEVICES": "net0",
                "FI_PROVIDER": "tcp",
                "FI_TCP_IFACE": "net0",
            },
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def __enter__(self) -> Machines:
        with contextlib.ExitStack() as stack:
            for number in range(1, self.count + 1):
                stack.enter_context(self._machine(number))
            self._stack = stack.pop_all()
        self._relay.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ends.set()
        self._relay.join()
        self._stack.close()

    @contextlib.contextmanager
    def _machine(self, number: int) -> Iterator[None]:
        name = self._name(number)
        _ip("netns", "add", name)
        try:
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            try:
                fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _TUN_WITHOUT_HEADER))
                _ip("link", "set", name, "netns", name)
                _ip("-n", name, "link", "set", name, "name", "net0", "mtu", str(_MTU), "up")
                _ip("-n", name, "link", "set", "lo", "up")
                _ip("-n", name, "address", "add", f"{_address(number)}/24", "dev", "net0")
                self._devices[number] = device
                yield
            finally:
                os.close(device)
        finally:
            _ip("netns", "delete", name)

    def _name(self, number: Any) -> str:
        return f"xpdl{os.getpid()}_{number}"

    def _carry(self) -> None:
        """Carry packets from device to device, each after its time."""
        rng, order = random.Random(0), itertools.count()
        under_way: list[tuple[float, int, bytes]] = []
        with selectors.DefaultSelector() as selector:
            for device in self._devices.values():
                selector.register(device, selectors.EVENT_READ)
            while not self._ends.is_set():
                pause = max(0.0, under_way[0][0] - time.monotonic()) if under_way else 0.1
                for key, _ in selector.select(min(pause, 0.1)):
                    packet = os.read(key.fd, _MTU)
                    self.relayed += 1
                    if rng.random() < self.loss:
                        self.lost += 1
                    else:
                        heapq.heappush(under_way, (time.monotonic() + self.latency, next(order), packet))
                while under_way and under_way[0][0] <= time.monotonic():
                    packet = heapq.heappop(under_way)[2]
                    # the last byte of the address that an IPv4 packet goes to
                    if packet[0] >> 4 == _IPV4 and packet[19] in self._devices:
                        os.write(self._devices[packet[19]], packet)


def _address(number: int) -> str:
    return f"10.77.0.{number}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)

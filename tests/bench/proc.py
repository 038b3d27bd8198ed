"""What the kernel says about a process: CPU time, memory, threads. Everything from /proc, nothing sampled by us."""

import os
import resource

TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


class CpuTime:
    """CPU seconds of a process, all its threads, living and dead ones. Differences are what is of interest."""

    def __init__(self, user=0.0, system=0.0, exact=0.0):
        self.user, self.system, self.exact = user, system, exact

    def __sub__(self, other):
        return CpuTime(self.user - other.user, self.system - other.system, self.exact - other.exact)

    def __add__(self, other):
        return CpuTime(self.user + other.user, self.system + other.system, self.exact + other.exact)

    def split(self):
        """(user, system) seconds: the scheduler's exact total, shared out as the clock ticks saw it."""
        ticks = self.user + self.system
        if ticks <= 0 or self.exact <= 0:
            return self.user, self.system
        return self.exact * self.user / ticks, self.exact * self.system / ticks


def cpu_time(pids):
    """The sum over several processes. utime and stime count ticks; schedstat counts nanoseconds but does not tell them apart."""
    total = CpuTime()
    for pid in pids:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        total += CpuTime(int(fields[11]) * TICK_S, int(fields[12]) * TICK_S, _run_time(pid))
    return total


def _run_time(pid):
    nanoseconds = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                nanoseconds += int(f.read().split()[0])
        except OSError:
            return 0.0  # not in this kernel, or a thread has just ended: ticks have to do
    return nanoseconds / 1e9


def status_kib(pid, field):
    """A field of /proc/PID/status in KiB, such as VmRSS, VmHWM or RssAnon."""
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    raise KeyError(field)


def family(pid):
    """The process and all that descend from it."""
    found = [pid]
    for parent in found:
        try:
            tasks = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        for task in tasks:
            with open(f"/proc/{parent}/task/{task}/children") as f:
                found.extend(int(child) for child in f.read().split())
    return found


def raise_file_limit():
    """This process and its children may open as many files as the hard limit allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard

# SPDX-License-Identifier: GPL-3.0-or-later
"""Every metric: its name, unit, direction and definition, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher", ""]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric is.

    Attributes:
        unit: "s", "share" (0..1), "1/s", "bytes", "bytes/s", "s/s" or "1" (a count or ratio).
        better: the direction that a user wants; empty where there is none.
        quantile: the share of samples below it, for a metric that is a quantile.
    """

    name: str
    group: str
    label: str
    unit: str
    better: Better
    definition: str
    quantile: float | None = None

    @property
    def ceiling(self) -> float | None:
        """The largest value that is possible, if there is one."""
        return 1.0 if self.unit == "share" and self.name not in MAY_EXCEED_ONE else None


# A measured use can pass a declared capacity: a quota is enforced by period, and a node that
# places more than it has is a finding, not a mistake.
MAY_EXCEED_ONE = {
    "cpu_allocated_of_capacity", "cpu_used_of_capacity", "cpu_used_of_allocated",
    "memory_allocated_of_capacity", "memory_used_of_capacity", "memory_used_of_allocated",
    "service_cpu_used_of_allocated",
}  # fmt: skip
QUANTILES = (0.5, 0.95, 0.99)
STEPS = {
    "decide": ("queue and decide", "From submitted to decided"),
    "place": ("make a place", "From decided to the node beginning to fetch the artifact"),
    "transfer": ("artifact transfer", "From then, or from decided, to the artifact being there"),
    "start": ("start", "From the artifact being there to the process having started"),
    "ready": ("become ready", "From started to the program saying that it is ready"),
}


def _quantile(group: str, name: str, label: str, share: float, of_what: str) -> Metric:
    percent = f"{share * 100:.0f}"
    definition = f"The {percent} % quantile of {of_what}"
    return Metric(
        f"{name}_p{percent}", group, f"{label} p{percent}", "s", "lower", definition, share
    )


LATENCY = (
    *(
        _quantile("latency", "latency", "latency", share,
                  "done − intended over the requests of the phase; a request that failed or "
                  "timed out counts as infinite.")
        for share in QUANTILES
    ),
    Metric("miss_share", "latency", "missed requests", "share", "lower",
           "Requests of the phase that failed or timed out ÷ all requests of the phase."),
    Metric("requests", "latency", "requests", "1", "",
           "How many requests were intended in the phase."),
)  # fmt: skip

SERVICE = (
    Metric("offered", "throughput", "offered load", "1/s", "",
           "Requests intended in the phase ÷ the phase's length."),
    Metric("throughput", "throughput", "throughput", "1/s", "higher",
           "Requests answered well within the phase (by the time of the answer) ÷ its length."),
    Metric("goodput", "throughput", "goodput", "1/s", "higher",
           "As throughput, counting only answers within the objective's latency."),
    Metric("slo_attainment", "objective", "objective attained", "share", "higher",
           "Requests of the phase answered well within the objective's latency ÷ all of the "
           "phase."),
    Metric("slo_violation_time", "objective", "time in violation", "share", "lower",
           "Seconds of the phase (by intended time) whose attainment is under the objective's "
           "share ÷ seconds of the phase with at least one request."),
)  # fmt: skip


def _provisioning(state: str, meaning: str) -> tuple[Metric, ...]:
    whole = Metric(
        f"provisioning_{state}", "provisioning", f"provisioning, {state}", "s", "lower",
        f"From submitted to ready, mean over the {state} replicas ({meaning}) that became ready.",
    )  # fmt: skip
    steps = (
        Metric(
            f"provisioning_{state}_{name}", "provisioning", f"{state}: {label}", "s", "lower",
            f"{definition}, mean over the {state} replicas that became ready.",
        )
        for name, (label, definition) in STEPS.items()
    )  # fmt: skip
    return (whole, *steps)


OVERHEADS = (
    *_provisioning("cold", "the artifact had to be fetched"),
    *_provisioning("warm", "nothing had to be fetched"),
    Metric("provisioning_transfer_share", "provisioning", "cold: share of transfer", "share", "",
           "Seconds of artifact transfer ÷ seconds of provisioning, over all cold replicas."),
    Metric("cold_share", "provisioning", "cold starts", "share", "lower",
           "Replicas whose artifact had to be fetched ÷ all replicas that became ready."),
    Metric("never_ready", "provisioning", "replicas never ready", "1", "lower",
           "Replicas that were submitted and did not become ready."),
    Metric("first_byte", "provisioning", "first reply after ready", "s", "lower",
           "From ready to the first byte of the first reply, mean over the replicas; it contains "
           "the wait for a request to arrive and is no part of provisioning."),
    Metric("scaling_time", "scaling", "scaling time", "s", "lower",
           "From the scale decision (or the first submission) until the last replica of the step "
           "is ready, mean over the steps; infinite if a replica never became ready."),
    Metric("scaling_time_per_replica", "scaling", "scaling time per replica", "s", "lower",
           "Scaling time ÷ the replicas of the step, mean over the steps."),
    Metric("scaling_replicas", "scaling", "replicas started", "1", "",
           "Replicas that the scale steps submitted."),
)  # fmt: skip


def _ratio(resource: str, first: str, second: str, definition: str) -> Metric:
    word = "CPU" if resource == "cpu" else resource
    name, label = f"{resource}_{first}_of_{second}", f"{word} {first} ÷ {second}"
    return Metric(name, "utilisation", label, "share", "", definition)


NODES = (
    _ratio("cpu", "allocated", "capacity", "Σ cores asked by placed jobs × time ÷ cores × time."),
    _ratio("cpu", "used", "capacity", "CPU seconds used ÷ (cores × time)."),
    _ratio("cpu", "used", "allocated", "CPU seconds used ÷ core-seconds allocated."),
    _ratio("memory", "allocated", "capacity", "Σ bytes asked by placed jobs × time ÷ memory."),
    _ratio("memory", "used", "capacity", "Time-weighted mean of the memory in use ÷ memory."),
    _ratio("memory", "used", "allocated", "Time-weighted mean memory in use ÷ bytes allocated."),
    Metric("overutilised_share", "utilisation", "time over-utilised", "share", "lower",
           "Time in which a node used at least 90 % of its cores ÷ time sampled."),
    Metric("underutilised_share", "utilisation", "time under-utilised", "share", "",
           "Time in which a node used at most 20 % of its cores ÷ time sampled."),
    Metric("cpu_throttled", "utilisation", "node throttled", "s/s", "lower",
           "Seconds in which the node's CPU limit held its tasks back ÷ seconds sampled."),
    Metric("service_cpu_used_of_allocated", "utilisation", "CPU used ÷ asked, by service",
           "share", "", "CPU seconds used by the service's jobs ÷ (cores they asked × time "
           "sampled)."),
    Metric("service_cpu_throttled", "utilisation", "throttled, by service", "s/s", "lower",
           "Seconds in which the jobs' own CPU limits held them back ÷ seconds sampled, over all "
           "jobs of the service."),
    Metric("network_received", "network", "received", "bytes", "",
           "Bytes that the node's interface received in the phase."),
    Metric("network_sent", "network", "sent", "bytes", "",
           "Bytes that the node's interface sent in the phase."),
    Metric("disk_read", "disk", "disk read", "bytes", "", "Bytes read from disks in the phase."),
    Metric("disk_written", "disk", "disk written", "bytes", "",
           "Bytes written to disks in the phase."),
)  # fmt: skip

QUEUE = (
    Metric("jobs_finished", "jobs", "jobs finished", "1", "higher",
           "Jobs of the class that finished well."),
    Metric("jobs_unfinished", "jobs", "jobs not finished", "1", "lower",
           "Jobs of the class that failed, were stopped, or were still waiting or running."),
    Metric("wait_mean", "jobs", "queue wait, mean", "s", "lower",
           "Mean of started − submitted over the jobs that started."),
    *(
        _quantile("jobs", "wait", "queue wait", share,
                  "started − submitted; a job that never started counts as infinite.")
        for share in (0.5, 0.95)
    ),
    Metric("wait_max", "jobs", "longest queue wait", "s", "lower",
           "The longest started − submitted; infinite if a job never started."),
    Metric("completion_mean", "jobs", "completion time, mean", "s", "lower",
           "Mean of finished − submitted over the jobs that finished well."),
    *(
        _quantile("jobs", "completion", "completion time", share,
                  "finished − submitted; a job that did not finish well counts as infinite.")
        for share in (0.5, 0.95)
    ),
    Metric("bounded_slowdown_10s", "jobs", "bounded slowdown, τ = 10 s", "1", "lower",
           "Mean of max(1, completion time ÷ max(run time, 10 s)) over the jobs that finished "
           "well."),
    Metric("bounded_slowdown_1s", "jobs", "bounded slowdown, τ = 1 s", "1", "lower",
           "The same with a bound of 1 s, for workloads of short jobs."),
    Metric("makespan", "jobs", "makespan", "s", "lower",
           "From the first submission to the last finish of the class; infinite if a job did not "
           "finish well."),
    Metric("job_throughput", "jobs", "jobs per second", "1/s", "higher",
           "Jobs that finished well ÷ the time from the first submission to the last finish."),
)  # fmt: skip

TIMING = (
    Metric("onset_error", "timing", "disturbance onset error", "s", "lower",
           "Largest |actual − planned| time of the run's disturbances beginning or ending."),
    Metric("notice_delay", "timing", "Kubernetes noticed", "s", "lower",
           "From the last layer setting in on a node until Kubernetes said that it was not ready."),
    Metric("notice_back_delay", "timing", "Kubernetes noticed the end", "s", "lower",
           "From the last layer's end on the node until Kubernetes said that it was ready again."),
    Metric("replaced", "timing", "replicas replaced", "1", "",
           "Replicas that took the place of those that the node had."),
    Metric("replace_delay", "timing", "replicas replaced after", "s", "lower",
           "From the layer's onset until the last replica that took the place of one of the node's "
           "was ready; infinite if one never was."),
)  # fmt: skip

METRICS = {
    metric.name: metric
    for metrics in (LATENCY, SERVICE, OVERHEADS, NODES, QUEUE, TIMING)
    for metric in metrics
}

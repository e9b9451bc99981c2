# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import gzip
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pkgctl.errors import SpecError
from pkgctl.workload.arrivals import Arrival
from pkgctl.workload.traces import TokenScale, read_trace

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2031-05-01 08:00:00.5000000,1000,20
2031-05-01 08:00:00.7500000,3000,0
2031-05-01 08:00:00.7500000,10,1
2031-05-01 08:01:00.5000000,500,5
"""
OPENB = """name,cpu_milli,memory_mib,qos,pod_phase,creation_time,deletion_time,scheduled_time
pod-a,4000,8192,LS,Running,100,700,160
pod-b,500,0,BE,Failed,220,220,220
pod-c,2000,1024,Burstable,Pending,280,400,
pod-d,2000,1024,Guaranteed,Running,280,1000,400
"""
PLAIN = """time,cpu,in,out,class
0.5,0.002,1024,8192,latency
1.5,,,,
"""


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(text: str, name: str = "trace.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return put


def test_azure_requests_count_from_the_first_and_cost_by_the_token(write: Write) -> None:
    scale = TokenScale(
        seconds_per_context_token=1e-6, seconds_per_generated_token=1e-3, bytes_per_token=4
    )

    first, *others = read_trace(write(AZURE), scale=scale)

    assert [other.time for other in others] == [0.25, 0.25, 60.0]
    assert first == Arrival(time=0.0, work=0.021, in_bytes=4000, out_bytes=80, work_class="latency")


def test_openb_pods_are_jobs_of_two_classes(write: Write) -> None:
    arrivals = read_trace(write(OPENB))

    assert arrivals[0] == Arrival(
        time=0.0, cores=4.0, memory=8 << 30, duration=540.0, work_class="latency", name="pod-a"
    )
    assert [one.time for one in arrivals] == [0.0, 120.0, 180.0, 180.0]
    assert [one.work_class for one in arrivals] == ["latency", "batch", "batch", "batch"]
    assert [one.duration for one in arrivals] == [540.0, 0.0, None, 600.0]


def test_a_plain_file_counts_from_its_own_zero_and_may_leave_things_out(write: Write) -> None:
    assert read_trace(write(PLAIN)) == (
        Arrival(time=0.5, work=0.002, in_bytes=1024, out_bytes=8192, work_class="latency"),
        Arrival(time=1.5),
    )


def test_speed_squeezes_times_and_durations_alike(write: Write) -> None:
    arrivals = read_trace(write(OPENB), speed=60)

    assert [one.time for one in arrivals] == [0.0, 2.0, 3.0, 3.0]
    assert [one.duration for one in arrivals] == [9.0, 0.0, None, 10.0]


def test_speed_leaves_the_cost_of_a_request_alone(write: Write) -> None:
    path = write(AZURE)

    assert [one.work for one in read_trace(path, speed=60)] == [
        one.work for one in read_trace(path)
    ]


def test_a_part_of_a_trace_can_be_taken(write: Write) -> None:
    path = write(OPENB)

    assert [one.name for one in read_trace(path, head=2)] == ["pod-a", "pod-b"]
    assert [(one.name, one.time) for one in read_trace(path, skip=1, head=2)] == [
        ("pod-b", 0.0),
        ("pod-c", 60.0),
    ]
    assert [one.name for one in read_trace(path, until=180.0)] == ["pod-a", "pod-b"]
    assert [one.name for one in read_trace(path, until=2.5, speed=60)] == ["pod-a", "pod-b"]


def test_what_is_not_needed_is_not_read(write: Write) -> None:
    path = write(AZURE + "nonsense\n")

    assert len(read_trace(path, head=4)) == 4
    assert len(read_trace(path, until=1.0)) == 3


def test_marks_line_ends_blank_lines_and_blanks_of_other_systems_are_borne(write: Write) -> None:
    text = "\ufeff" + PLAIN.replace(",", ", ").replace("\n", "\r\n") + "\r\n\r\n"

    assert read_trace(write(text)) == read_trace(write(PLAIN))


def test_a_gzipped_trace_is_unpacked(write: Write, tmp_path: Path) -> None:
    packed = tmp_path / "trace.csv.gz"
    packed.write_bytes(gzip.compress(OPENB.encode()))

    assert read_trace(packed) == read_trace(write(OPENB))


def test_times_with_a_zone_are_understood(write: Write) -> None:
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2031-05-01 10:00:00.000009+02:00,1,1\n"
        "2031-05-01 08:00:01.000009+00:00,1,1\n"
    )

    assert [one.time for one in read_trace(write(text))] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ":1: it is empty"),
        ("time\n", "no arrivals are left"),
        (
            "when,cpu\n1,2\n",
            ":1: no column tells the time; it would be one of TIMESTAMP",
        ),
        ("time,time\n", ":1: two columns are called 'time'"),
        ("time,cpus\n1,2\n", ":1: it is no csv trace: unknown column 'cpus'; did you mean cpu?"),
        ("TIMESTAMP,Tokens\n", ":1: it is no azure-llm trace: there is no column 'ContextTokens'"),
        ("time,cpu\n1,2\n3\n", ":3: found 1 cells; the header names 2 columns"),
        ("time,cpu\n1,2,3\n", ":2: found 3 cells; the header names 2 columns"),
        ("time\nsoon\n", ":2: time: found 'soon'; write a number that is zero or more"),
        ("time\n-1\n", ":2: time: found '-1'"),
        ("time\nnan\n", ":2: time: found 'nan'"),
        ("time,cpu\n ,1\n", ":2: time: found ''"),
        ("time,in\n1,1.5\n", ":2: in: found '1.5'; write a whole number"),
        ("time,class\n1,latncy\n", ":2: class: found 'latncy'; did you mean latency?"),
        ("time\n2\n3\n1\n", ":4: time goes back, below that of line 3; sort the rows by time"),
        (AZURE.replace("08:01:00", "8 o'clock"), ":5: TIMESTAMP: found"),
        (AZURE.replace("08:01:00", "07:00:00"), ":5: time goes back"),
        (AZURE.replace(",1000,", ",,"), ":2: ContextTokens: found ''"),
        (OPENB.replace("LS", "XX"), ":2: qos: found 'XX'; known are"),
        (OPENB.replace("700", "70"), ":2: deletion_time: found '70'; it must not lie before"),
        (OPENB.replace("4000", "many"), ":2: cpu_milli: found 'many'"),
    ],
)
def test_a_fault_is_named_with_its_line(write: Write, text: str, said: str) -> None:
    path = write(text)

    with pytest.raises(SpecError) as caught:
        read_trace(path)

    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("trace.csv", b"\xff\xfe\x00", "not text in UTF-8"),
        ("trace.csv.gz", b"time\n1\n", "no whole gzip file"),
        (
            "trace.csv.gz",
            gzip.compress(b"time\n" + b"1\n" * 9999, mtime=0)[:-20],
            "no whole gzip file",
        ),
        ("trace.csv", b"time\n" + b"1" * 200_000, "it is no CSV: field larger"),
    ],
)
def test_a_file_of_another_kind_is_named(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(SpecError, match=said):
        read_trace(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"absent\.csv: cannot be read: No such file"):
        read_trace(tmp_path / "absent.csv")


def test_an_unknown_format_gets_a_hint(write: Write) -> None:
    with pytest.raises(SpecError, match="'azure'; did you mean azure-llm"):
        read_trace(write(AZURE), format="azure")


def test_a_format_that_is_not_the_files_is_refused(write: Write) -> None:
    with pytest.raises(SpecError, match="no openb trace: there is no column 'creation_time'"):
        read_trace(write(AZURE), format="openb")


@pytest.mark.parametrize("options", [{"speed": 0}, {"head": 0}, {"skip": -1}])
def test_impossible_options_are_refused(write: Write, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        read_trace(write(PLAIN), **options)  # type: ignore[arg-type]


def public_trace(name: str) -> Path:
    """Return a public trace's file, where the tester has it."""
    folder = os.environ.get("PKGCTL_TRACES")
    path = Path(folder or "") / name
    if not folder or not path.is_file():
        pytest.skip(f"needs {name} in the folder that PKGCTL_TRACES names")
    return path


def test_the_public_azure_trace_is_read_whole() -> None:
    arrivals = read_trace(public_trace("azure-llm-2023-code.csv"))

    assert len(arrivals) == 8819
    assert arrivals[-1].time == 3435.948056


def test_the_public_openb_trace_is_read_whole() -> None:
    arrivals = read_trace(public_trace("alibaba-openb-pods.csv"))

    assert Counter(one.work_class for one in arrivals) == {"latency": 4647, "batch": 3505}
    assert sum(one.duration is None for one in arrivals) == 897

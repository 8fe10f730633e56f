"""What a machine runs out of or has wrong: disk, descriptors, clock, listeners."""

from .fault import BURNS, LATENCY, Fault, Pace
from .machine_steps import (
    MIB, descriptors_back, few_descriptors, fill_disk, fill_disk_more, listen_to_everybody, make_room, own_clock,
    own_disk, skew)
from .needs import disks
from .steps import restart

MACHINES = {
    "disk-full": Fault(
        "The disk of eu-1's process is full, then has room again.",
        [fill_disk(MIB)], [make_room], needs=[disks], readies=[own_disk("eu-1-0")],
        fires=["CellarDiskFull", "CellarDiskFillsUp"],
        may=[*LATENCY],
    ),
    "disk-fills-up": Fault(
        "The disk of eu-1's process loses 84 MiB in five minutes, for hours. Room is made while over 5 GiB are left.",
        [fill_disk_more(84 * MIB)], [make_room], again_s=1, needs=[disks], readies=[own_disk("eu-1-0")],
        # It is the trend of six hours.
        pace=Pace(before=80, during=30, after=20, step_s=300),
        fires=["CellarDiskFillsUp"],
        may=[*LATENCY],
    ),
    "descriptors-short": Fault(
        "The process of eu-1 may open seven files more than it has open, then as many as ever.",
        [few_descriptors("eu-1-0", 7)], [descriptors_back("eu-1-0")],
        fires=["CellarFileDescriptorsShort"],
        may=[*BURNS, *LATENCY],
    ),
    "clock-wrong": Fault(
        "The clock of eu-1's machine is an hour ahead, then right again.",
        [skew(3_600_000)], [skew(0)], readies=[own_clock("eu-1-0")],
        fires=["CellarClockDisputed"],
        may=[*LATENCY],
    ),
    "plaintext-listener": Fault(
        "The process of eu-1 is started again with a listener beyond loopback, then with its own.",
        [listen_to_everybody("eu-1-0")], [restart("eu-1-0")],
        fires=["CellarPlaintextListener"],
        may=[*BURNS, *LATENCY],
    ),
}

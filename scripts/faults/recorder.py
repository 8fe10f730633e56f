"""What routers and cells export, scrape by scrape, as series for `promtool test rules`."""

import http.client
import math
import re
import urllib.parse

# Times of the day as seconds since 1970. Rules compare them with time(), which a rule test counts from 0.
UNIX_TIMES = {"process_start_time_seconds"}
# Rules ask for shares above a bound of these; the one quantile that is an alert's needs all of its buckets.
BOUNDS = {"cellar_request_seconds_bucket": "0.02", "cellar_policy_fuel_bucket": "512000.0"}
QUANTILE = "cellar_revocation_lag_seconds_bucket"


class Labels(dict):
    def __hash__(self):
        return hash(tuple(sorted(self.items())))


class Recorder:
    """One row of samples a series, in the order of scrapes."""

    def __init__(self, targets, wanted, pace, began):
        self.targets, self.wanted, self.pace, self.began = targets, wanted, pace, began
        self.rows, self.scrapes = {}, 0
        # Nobody looks while this is set: as if Prometheus had no targets.
        self.blind = False

    def scrape(self):
        for labels, url in [] if self.blind else self.targets:
            values = read(url)
            self.put("up", labels, 0 if values is None else 1)
            for (name, own), value in (values or {}).items():
                if name in self.wanted and not ("_bucket" in name and not kept_bucket(name, own)):
                    if name in UNIX_TIMES:
                        value = round((value - self.began) / self.pace.scrape_s * self.pace.step_s)
                    self.put(name, {**labels, **own}, value)
        self.scrapes += 1

    def put(self, name, labels, value):
        inside = ",".join(f'{key}="{labels[key]}"' for key in sorted(labels))
        row = self.rows.setdefault(f"{name}{{{inside}}}", [])
        row.extend([None] * (self.scrapes - len(row)))
        row.append(short(value))

    def series(self):
        for name, row in sorted(self.rows.items()):
            row.extend([None] * (self.scrapes - len(row)))
            if name.startswith("up{") or any(row):
                yield name, expand(row)


def short(value):
    """Counts as they are; of ages a tenth of a second, of a disk's bytes four digits say enough."""
    if float(value).is_integer() and abs(value) < 1e9:
        return value
    return round(value, 1) if abs(value) < 1e3 else float(f"{value:.4g}")


def kept_bucket(name, labels):
    return name == QUANTILE or name in BOUNDS and labels.get("le") == BOUNDS[name]


def read(url):
    try:
        parsed = urllib.parse.urlparse(url)
        connection = http.client.HTTPConnection(parsed.hostname, parsed.port, timeout=2)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
    except (OSError, http.client.HTTPException):
        return None
    values = {}
    for line in text.splitlines():
        found = re.match(r"([a-zA-Z_:][\w:]*)(?:\{(.*?)\})? (\S+)", line)
        if found and not line.startswith("#"):
            labels = Labels(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[2] or ""))
            value = float(found[3])
            # NaN is as good as nothing, and equals nothing: a run of it would never begin.
            if not math.isnan(value):
                values[found[1], labels] = value
    return values


def targets(status):
    found = []
    for process in status["processes"]:
        if process["role"] not in ("router", "cell"):
            continue
        labels = Labels(job=f"cellar-{process['role']}", region=process["region"], instance=process["name"])
        labels["cell" if process["role"] == "cell" else "router"] = process["cell"] or process["name"]
        found.append((labels, process["admin_url"]))
    return found


def expand(row):
    """Runs of one value as `1x9` (ten samples), what was not there as `_x10`; a series that ends is stale first."""
    words, n = [], 0
    while n < len(row):
        end = n
        while end < len(row) and row[end] == row[n]:
            end += 1
        length = end - n
        if row[n] is None:
            if n > 0:
                words.append("stale")
                length -= 1
            if length:
                words.append(f"_x{length}")
        elif length == 1:
            words.append(f"{row[n]:.10g}")
        else:
            words.append(f"{row[n]:.10g}x{length - 1}")
        n = end
    return " ".join(words)

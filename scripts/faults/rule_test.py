"""A recording and what must fire on it, as a file for `promtool test rules`."""

from .fault import SLOW

FIRING = 'ALERTS{alertstate="firing"'
# What most rates are taken over.
WINDOW_S = 300
FEW_SAMPLES = "# At such a step hardly any window of five minutes holds two samples: no alert on rates could fire here."


def write(path, name, fault, recorder):
    pace = fault.pace
    counts = [pace.before, pace.before + pace.during, pace.before + pace.during + pace.after]
    # A sample that is older than five minutes is none: beyond that step, only the moments of scrapes are looked at.
    every_s = 30 if pace.step_s <= WINDOW_S else pace.step_s
    minutes = [count * pace.step_s // 60 - 1 if every_s == 30 else (count - 1) * pace.step_s // 60 for count in counts]
    shape = "two regions of one cell each" if "--regions" in fault.up else "a region of two cells"
    each = pace.step_s / pace.scrape_s
    lines = [
        f"# {fault.what}",
        "#",
        f"# Recorded by scripts/record-faults from a real stack: {shape}, callers who ask for checks,",
        f"# profiles and now and then a sign-up. {pace.before} scrapes before the fault, {pace.during} while it lasts, "
        f"{pace.after} after it,",
        f"# {pace.scrape_s:g} s apart, stretched to {pace.step_s} s, since windows of minutes and hours have to fill. "
        f"Rates are {each:g} times",
        "# lower than they were, ratios and figures in seconds as they were. Left out: series that stayed at 0, and",
        "# buckets that no alert reads.",
        *([FEW_SAMPLES] if pace.step_s >= WINDOW_S else []),
        "rule_files: [../rules/recording.yml, ../rules/alerts.yml]",
        f"evaluation_interval: {every_s}s",
        "tests:",
        f"  - name: {name}",
        f"    interval: {pace.step_s}s",
        "    input_series:",
    ]
    for series, values in recorder.series():
        lines += [f"      - series: '{series}'", f"        values: '{values}'"]
    lines += ["    promql_expr_test:", "      # Before: nothing."]
    lines += check(minutes[0], others([]), [])
    lines += ["      # While it lasts: these, and what may follow from it."]
    for alert in fault.fires:
        lines += check(minutes[1], fires(alert), [("{}", 1)])
    lines += check(minutes[1], others(fault.fires + fault.may), [])
    for alert in fault.then:
        lines += check(minutes[1] + 5, fires(alert), [("{}", 1)])
    lines += ["      # Afterwards: nothing but what looks at hours and days."]
    lines += check(minutes[2], others(SLOW + fault.lingers if fault.breaks else []), [])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def fires(alert):
    return f'count(count by (alertname) ({FIRING},alertname="{alert}"}}))'


def others(alerts):
    """Whatever fires but these."""
    return f'count by (alertname) ({FIRING},alertname!~"{"|".join(alerts) or "-"}"}})'


def check(minute, expression, samples):
    lines = [f"      - expr: '{expression}'", f"        eval_time: {minute}m"]
    if not samples:
        return [*lines, "        exp_samples: []"]
    lines.append("        exp_samples:")
    return lines + [f"          - {{labels: '{labels}', value: {value}}}" for labels, value in samples]

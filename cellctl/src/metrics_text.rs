//! What a process exports at `/metrics`, read back.

use std::collections::BTreeMap;

/// Every series of one scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scrape {
    series: Vec<Series>,
}

#[derive(Clone, Debug, PartialEq)]
struct Series {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Scrape {
    /// What is no series (comments, what is broken) is left out.
    pub(crate) fn parse(text: &str) -> Self {
        Self { series: text.lines().filter_map(series).collect() }
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(move |series| series.name == name)
    }

    /// The sum of all series of that name that have these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.named(name).filter(|series| series.has(labels)).map(|series| series.value).sum()
    }

    /// The largest of them; none if there is none.
    pub(crate) fn max(&self, name: &str) -> Option<f64> {
        self.named(name).map(|series| series.value).reduce(f64::max)
    }

    /// Sums of that name by the value of `label`.
    pub(crate) fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for series in self.named(name) {
            if let Some(value) = series.label(label) {
                *sums.entry(value.to_owned()).or_default() += series.value;
            }
        }
        sums
    }

    /// The sum of a histogram's series of one name, over those whose `label` is among `of`.
    pub(crate) fn histogram(&self, name: &str, label: &str, of: &[&str]) -> Classes {
        let mut sums: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        for series in self.named(&format!("{name}_bucket")) {
            let wanted = of.is_empty() || series.label(label).is_some_and(|value| of.contains(&value));
            if let Some(bound) = series.label("le").and_then(bound).filter(|_| wanted) {
                // Non-negative numbers are in the order of their bits.
                sums.entry(bound.to_bits()).or_insert((bound, 0.0)).1 += series.value;
            }
        }
        Classes(sums.into_values().collect())
    }
}

fn bound(text: &str) -> Option<f64> {
    if text == "+Inf" { Some(f64::INFINITY) } else { text.parse().ok().filter(|bound| *bound >= 0.0) }
}

impl Series {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.label(name) == Some(value))
    }
}

/// Upper bounds with how many were at most that, as a histogram exports them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Classes(Vec<(f64, f64)>);

impl Classes {
    /// What came since `before`; all of it, if the process has started anew meanwhile.
    pub(crate) fn since(&self, before: &Classes) -> Classes {
        let held = |bound: f64| before.0.iter().find(|(at, _)| *at == bound).map_or(0.0, |(_, count)| *count);
        if self.count() < before.count() {
            return self.clone();
        }
        Classes(self.0.iter().map(|(bound, count)| (*bound, (count - held(*bound)).max(0.0))).collect())
    }

    pub(crate) fn add(&mut self, other: &Classes) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        for (bound, count) in &mut self.0 {
            *count += other.0.iter().find(|(at, _)| at == bound).map_or(0.0, |(_, count)| *count);
        }
    }

    pub(crate) fn count(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, count)| *count)
    }

    /// Below this, that part of them was: within its class as if they were spread evenly. None: there were none.
    pub(crate) fn quantile(&self, part: f64) -> Option<f64> {
        let rank = part * self.count();
        if self.count() <= 0.0 {
            return None;
        }
        let (mut from, mut below) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= rank && *count > below {
                // Nothing is known of the last class but where it begins.
                let width = if bound.is_finite() { bound - from } else { 0.0 };
                return Some(from + width * (rank - below) / (count - below));
            }
            (from, below) = (*bound, *count);
        }
        Some(from)
    }

    /// Which part of them was at most `limit`, likewise.
    pub(crate) fn part_within(&self, limit: f64) -> Option<f64> {
        let all = self.count();
        if all <= 0.0 {
            return None;
        }
        let (mut from, mut below) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *bound >= limit {
                let part = if bound.is_finite() { (limit - from) / (bound - from) } else { 0.0 };
                return Some((below + (count - below) * part) / all);
            }
            (from, below) = (*bound, *count);
        }
        Some(1.0)
    }
}

/// `name{label="value",…} number`, and perhaps an exemplar behind it.
fn series(line: &str) -> Option<Series> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_whitespace().next()?;
    let value = if value == "+Inf" { f64::INFINITY } else { value.parse().ok()? };
    Some(Series { name: name.to_owned(), labels, value })
}

type Labels = Vec<(String, String)>;

/// Labels up to the closing brace, and what is behind it. Values may hold any character, escaped.
fn labels(text: &str) -> Option<(Labels, &str)> {
    let (mut labels, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((labels, behind));
        }
        let (name, behind) = rest.split_once("=\"")?;
        let (mut value, mut chars) = (String::new(), behind.char_indices());
        rest = loop {
            match chars.next()? {
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (at, '"') => break &behind[at + 1..],
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r##"# HELP cellar_requests Requests answered, by route and status.
# TYPE cellar_requests counter
cellar_requests_total{route="consume",status="200"} 90
cellar_requests_total{route="consume",status="503"} 10
cellar_requests_total{route="admit",status="200"} 5 # {trace_id="ab"} 1 1520879607.789
cellar_odd{tier="a \"quoted\", {braced} \\ one"} 1.5
process_open_fds 12
cellar_request_seconds_bucket{le="0.01",route="consume"} 50
cellar_request_seconds_bucket{le="0.02",route="consume"} 90
cellar_request_seconds_bucket{le="+Inf",route="consume"} 100
cellar_request_seconds_bucket{le="0.01",route="profile"} 7
broken{
# EOF
"##;

    #[test]
    fn series_are_read_with_their_labels_and_what_is_broken_is_left_out() {
        let scrape = Scrape::parse(TEXT);
        assert_eq!(scrape.sum("cellar_requests_total", &[]), 105.0);
        assert_eq!(scrape.sum("cellar_requests_total", &[("status", "503")]), 10.0);
        assert_eq!(scrape.by("cellar_requests_total", "route")["admit"], 5.0);
        assert_eq!(scrape.by("cellar_odd", "tier")[r#"a "quoted", {braced} \ one"#], 1.5);
        assert_eq!(scrape.max("process_open_fds"), Some(12.0));
        assert_eq!(scrape.max("broken"), None);
    }

    #[test]
    fn a_quantile_lies_in_the_class_of_its_rank() {
        let classes = Scrape::parse(TEXT).histogram("cellar_request_seconds", "route", &["consume"]);
        assert_eq!(classes.count(), 100.0);
        assert_eq!(classes.quantile(0.25), Some(0.005));
        assert_eq!(classes.quantile(0.9), Some(0.02));
        assert_eq!(classes.quantile(0.99), Some(0.02), "all that is known is that it is more");
        assert_eq!(classes.part_within(0.02), Some(0.9));
        assert_eq!(classes.part_within(0.015), Some(0.7));
        assert_eq!(Classes::default().quantile(0.5), None);
    }

    #[test]
    fn what_came_since_is_what_a_rate_is_made_of_and_a_restart_begins_anew() {
        let classes = |counts: [f64; 2]| Classes(vec![(0.01, counts[0]), (f64::INFINITY, counts[1])]);
        assert_eq!(classes([7.0, 9.0]).since(&classes([5.0, 6.0])), classes([2.0, 3.0]));
        assert_eq!(classes([1.0, 2.0]).since(&classes([5.0, 6.0])), classes([1.0, 2.0]));
        let mut sum = Classes::default();
        sum.add(&classes([1.0, 2.0]));
        sum.add(&classes([1.0, 2.0]));
        assert_eq!(sum, classes([2.0, 4.0]));
    }
}

//! A page of metrics, read as strictly as OpenMetrics is written.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub struct Page {
    pub families: Vec<Family>,
}

#[derive(Debug, Default)]
pub struct Family {
    /// As its lines of description have it.
    pub name: String,
    pub kind: String,
    pub unit: Option<String>,
    pub help: String,
    pub samples: Vec<Sample>,
}

#[derive(Debug)]
pub struct Sample {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

impl Sample {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }
}

impl Family {
    /// As queries name it: of a counter its one series, of a histogram what its three begin with.
    pub fn queried_as(&self) -> String {
        match self.kind.as_str() {
            "counter" => format!("{}_total", self.name),
            "info" => format!("{}_info", self.name),
            _ => self.name.clone(),
        }
    }

    /// Names of its labels, in order, but for those that histograms have by themselves.
    pub fn label_names(&self) -> Vec<&str> {
        let first = self.samples.first().map(|sample| &sample.labels[..]).unwrap_or_default();
        first.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "le").collect()
    }

    fn suffixes(&self) -> &'static [&'static str] {
        match self.kind.as_str() {
            "counter" => &["_total"],
            "histogram" => &["_sum", "_count", "_bucket"],
            "info" => &["_info"],
            _ => &[""],
        }
    }
}

impl Page {
    /// Reads a page, or says the first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Page, String> {
        let lines = text.strip_suffix("# EOF\n").ok_or("it does not end with # EOF")?;
        let mut page = Page::default();
        for line in lines.lines() {
            page.take(line).map_err(|what| format!("{what}: {line}"))?;
        }
        page.check()?;
        Ok(page)
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        if let Some(about) = line.strip_prefix("# ") {
            let mut words = about.splitn(3, ' ');
            let (what, name, rest) = (words.next(), words.next(), words.next());
            let (Some(what), Some(name), Some(rest)) = (what, name, rest) else { return Err("half a line".into()) };
            if self.families.last().is_none_or(|family| family.name != name) {
                self.families.push(Family { name: name.to_owned(), ..Family::default() });
            }
            let family = self.families.last_mut().ok_or("no family")?;
            if !family.samples.is_empty() {
                return Err("a description after samples".into());
            }
            match what {
                "HELP" => family.help = rest.to_owned(),
                "TYPE" => family.kind = rest.to_owned(),
                "UNIT" => family.unit = Some(rest.to_owned()),
                _ => return Err("an unknown description".into()),
            }
            return Ok(());
        }
        let sample = sample(line)?;
        let family = self.families.last_mut().ok_or("a sample before any family")?;
        let suffix = sample.name.strip_prefix(&family.name).ok_or("a sample of another family")?;
        if !family.suffixes().contains(&suffix) {
            return Err(format!("a {} has no {suffix:?}", family.kind));
        }
        family.samples.push(sample);
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let (mut names, mut series) = (BTreeSet::new(), BTreeSet::new());
        for family in &self.families {
            let name = &family.name;
            if !names.insert(name) {
                return Err(format!("{name} is described twice"));
            }
            if family.help.is_empty() || !["counter", "gauge", "histogram", "info"].contains(&family.kind.as_str()) {
                return Err(format!("{name} has no help, or the type {:?}", family.kind));
            }
            if family.unit.as_ref().is_some_and(|unit| !name.ends_with(&format!("_{unit}"))) {
                return Err(format!("{name} does not end with its unit"));
            }
            for key in family.samples.iter().map(key) {
                if !series.insert(key.clone()) {
                    return Err(format!("{key} is there twice"));
                }
            }
            let negative = family.samples.iter().any(|sample| sample.value < 0.0);
            if negative && family.kind != "gauge" {
                return Err(format!("{name} is below zero"));
            }
            if family.kind == "histogram" {
                classes_rise(family)?;
            }
        }
        Ok(())
    }

    pub fn family(&self, queried_as: &str) -> Option<&Family> {
        self.families.iter().find(|family| family.queried_as() == queried_as)
    }

    /// Every series by name and labels.
    pub fn series(&self) -> BTreeSet<String> {
        self.families.iter().flat_map(|family| family.samples.iter().map(key)).collect()
    }

    /// The sum of all series of a family that have these labels.
    pub fn sum(&self, queried_as: &str, labels: &[(&str, &str)]) -> f64 {
        let family = self.family(queried_as).unwrap_or_else(|| panic!("{queried_as} is not there"));
        let fits = |sample: &&Sample| labels.iter().all(|(name, value)| sample.label(name) == Some(value));
        family.samples.iter().filter(fits).map(|sample| sample.value).sum()
    }
}

fn key(sample: &Sample) -> String {
    format!("{}{:?}", sample.name, sample.labels)
}

/// Classes of each series of a histogram: bounds and counts rise, and the last has all.
fn classes_rise(family: &Family) -> Result<(), String> {
    let mut by_labels: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for sample in &family.samples {
        let own: Vec<_> = sample.labels.iter().filter(|(name, _)| name != "le").collect();
        let own = format!("{own:?}");
        if sample.name.ends_with("_bucket") {
            let le = sample.label("le").ok_or("a class without a bound")?.parse().map_err(|_| "an odd bound")?;
            by_labels.entry(own).or_default().push((le, sample.value));
        } else if sample.name.ends_with("_count") {
            counts.insert(own, sample.value);
        }
    }
    for (labels, classes) in by_labels {
        let rises = classes.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        let last = classes.last().copied();
        if !rises || last != counts.get(&labels).map(|count| (f64::INFINITY, *count)) {
            return Err(format!("{} {labels}: {classes:?}", family.name));
        }
    }
    Ok(())
}

/// `name{label="value",…} value`, and after a histogram's class perhaps ` # {label="value"} value`.
fn sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, rest) = line.split_at(end);
    let name_fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(name_fits) {
        return Err(format!("an odd name {name:?}"));
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), rest),
    };
    let rest = rest.strip_prefix(' ').ok_or("no value")?;
    let (value, exemplar) = rest.split_once(" # ").map_or((rest, None), |(value, more)| (value, Some(more)));
    if let Some(exemplar) = exemplar {
        let inside = exemplar.strip_prefix('{').ok_or("an odd exemplar")?;
        let (_, value) = self::labels(inside)?;
        number(value.strip_prefix(' ').ok_or("an exemplar without a value")?)?;
    }
    Ok(Sample { name: name.to_owned(), labels, value: number(value)? })
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

type Labels = Vec<(String, String)>;

/// Labels up to their closing brace, and what stands after it.
fn labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut labels = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, quoted) = rest.split_once("=\"").ok_or("a label without a value")?;
        let (mut value, mut escaped, mut end) = (String::new(), false, None);
        for (at, c) in quoted.char_indices() {
            match (escaped, c) {
                (true, 'n') => value.push('\n'),
                (true, '"' | '\\') => value.push(c),
                (true, _) => return Err("an unknown escape".into()),
                (false, '\\') => {}
                (false, '"') => {
                    end = Some(at);
                    break;
                }
                (false, c) => value.push(c),
            }
            escaped = !escaped && c == '\\';
        }
        labels.push((name.to_owned(), value));
        rest = &quoted[end.ok_or("a value without an end")? + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

//! Charts as inline SVG. Colours are classes: the page says what they are, by light and by dark.

use std::fmt::Write as _;

/// The width of a letter of a name, at most.
const LETTER: f64 = 6.5;
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;
/// Ticks of the upright axis, and names along the other.
const TICKS: u32 = 4;
const NAMES_MAX: usize = 5;

pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    /// What a reader who does not see it has to know.
    pub(super) description: &'a str,
    /// Of the steps along the axis.
    pub(super) names: &'a [String],
    /// How a value is written.
    pub(super) value: &'a dyn Fn(f64) -> String,
}

/// One line of steps; no value where nothing was asked.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) class: &'a str,
    pub(super) values: &'a [Option<f64>],
}

impl Chart<'_> {
    /// Lines over each other, each step as wide as the time it stands for.
    pub(super) fn lines(&self, lines: &[Line<'_>]) -> String {
        let most = lines.iter().flat_map(|line| line.values).flatten().copied().fold(0.0, f64::max);
        let top = rounded_up(most);
        let mut svg = self.begin(top);
        let step = (WIDTH - LEFT - RIGHT) / self.names.len().max(1) as f64;
        for line in lines {
            let (mut path, mut drawn) = (String::new(), false);
            for (n, value) in line.values.iter().enumerate() {
                let Some(value) = value else {
                    drawn = false;
                    continue;
                };
                let (from, y) = (LEFT + step * n as f64, height(*value, top));
                let command = if drawn { 'L' } else { 'M' };
                let _ = write!(path, "{command}{from:.1} {y:.1}L{:.1} {y:.1}", from + step);
                drawn = true;
            }
            let _ = write!(svg, r#"<path class="line {}" d="{path}"/>"#, line.class);
        }
        // What a pointer sees of each step.
        for (n, name) in self.names.iter().enumerate() {
            let said = lines.iter().filter_map(|line| {
                let value = (self.value)(line.values.get(n).copied().flatten()?);
                Some(format!("{} {value}", line.name))
            });
            let said = said.collect::<Vec<_>>().join(", ");
            if !said.is_empty() {
                self.hint(&mut svg, LEFT + step * n as f64, step, &format!("{name}: {said}"));
            }
        }
        self.end(svg, step)
    }

    /// One bar a name.
    pub(super) fn bars(&self, values: &[f64]) -> String {
        let top = rounded_up(values.iter().copied().fold(0.0, f64::max));
        let mut svg = self.begin(top);
        let step = (WIDTH - LEFT - RIGHT) / self.names.len().max(1) as f64;
        for (n, (value, name)) in values.iter().zip(self.names).enumerate() {
            let (from, y) = (LEFT + step * n as f64, height(*value, top));
            let _ = write!(
                svg,
                r#"<rect class="bar" x="{:.1}" y="{y:.1}" width="{:.1}" height="{:.1}"/>"#,
                from + step * 0.1,
                step * 0.8,
                HEIGHT - BOTTOM - y
            );
            let said = (self.value)(*value);
            if *value > 0.0 {
                let _ = write!(
                    svg,
                    r#"<text class="over" x="{:.1}" y="{:.1}">{}</text>"#,
                    from + step / 2.0,
                    (y - 4.0).max(TOP),
                    escaped(&said)
                );
            }
            self.hint(&mut svg, from, step, &format!("{name}: {said}"));
        }
        self.end(svg, step)
    }

    fn begin(&self, top: f64) -> String {
        let mut svg = format!(
            r#"<svg role="img" viewBox="0 0 {WIDTH} {HEIGHT}" aria-label="{}"><title>{}</title><desc>{}</desc>"#,
            escaped(self.title),
            escaped(self.title),
            escaped(self.description)
        );
        for tick in 0..=TICKS {
            let value = top * f64::from(tick) / f64::from(TICKS);
            let y = height(value, top);
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}"/><text class="tick" x="{}" y="{:.1}">{}</text>"#,
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                escaped(&(self.value)(value))
            );
        }
        svg
    }

    fn hint(&self, svg: &mut String, x: f64, width: f64, text: &str) {
        let height = HEIGHT - TOP - BOTTOM;
        let _ = write!(
            svg,
            r#"<rect class="hint" x="{x:.1}" y="{TOP}" width="{width:.1}" height="{height}"><title>{}</title></rect>"#,
            escaped(text)
        );
    }

    fn end(&self, mut svg: String, step: f64) -> String {
        let every = self.names.len().div_ceil(NAMES_MAX).max(1);
        // Where there is room each bar has its name.
        let every =
            if self.names.iter().all(|name| name.chars().count() <= 9) && self.names.len() <= 12 { 1 } else { every };
        for (n, name) in self.names.iter().enumerate().step_by(every) {
            let middle = every == 1;
            let x = LEFT + step * n as f64 + if middle { step / 2.0 } else { 0.0 };
            if !middle && x + name.chars().count() as f64 * LETTER > WIDTH {
                // Half a moment at the edge says less than none; the one before it has its whole.
                continue;
            }
            let class = if middle { "name middle" } else { "name" };
            let _ = write!(svg, r#"<text class="{class}" x="{x:.1}" y="{}">{}</text>"#, HEIGHT - 12.0, escaped(name));
        }
        svg.push_str("</svg>");
        svg
    }
}

fn height(value: f64, top: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / top).clamp(0.0, 1.0)
}

/// The next of 1, 2, 4, 5, 8, 10 … that the ticks divide well; 1 for nothing.
fn rounded_up(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let magnitude = 10f64.powf(most.log10().floor());
    let leading = most / magnitude;
    let step = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0].into_iter().find(|step| leading <= *step + 1e-9);
    step.unwrap_or(10.0) * magnitude
}

/// Text of others, as a page may carry it.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number_above_all_values() {
        let ends = [0.0, 0.3, 1.0, 1.1, 3.0, 4.5, 7.0, 81.0, 1_234_567.0].map(rounded_up);
        assert_eq!(ends, [1.0, 0.4, 1.0, 2.0, 4.0, 5.0, 8.0, 100.0, 2_000_000.0]);
    }

    #[test]
    fn a_line_breaks_where_nothing_was_asked() {
        let names: Vec<String> = (0..3).map(|n| n.to_string()).collect();
        let chart = Chart { title: "t", description: "d", names: &names, value: &|value| value.to_string() };
        let svg = chart.lines(&[Line { name: "a", class: "current", values: &[Some(1.0), None, Some(2.0)] }]);
        assert_eq!(svg.matches('M').count(), 2, "{svg}");
        assert_eq!(svg.matches("<rect class=\"hint\"").count(), 2, "{svg}");
    }
}

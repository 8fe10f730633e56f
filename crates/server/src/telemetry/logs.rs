//! Log lines: readable or JSON, each with the id of the request it belongs to.

use super::level::{LevelError, LogLevel};
use super::lines::Lines;
use super::repeats::{KINDS, Repeats, kind_of};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use std::fmt;
use std::io::IsTerminal;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, reload};

/// By [`KINDS`].
pub(super) type KindLabel = [(&'static str, &'static str); 1];

/// What became of lines. All clones count together.
#[derive(Clone, Default)]
pub(super) struct LogCounts {
    /// Left out, because there were many of their kind.
    pub(super) suppressed: Family<KindLabel, Counter>,
    /// Could not be written, or waited for that in vain.
    pub(super) lost: Counter,
}

impl LogCounts {
    fn suppressed_of(&self, kind: &'static str) -> Counter {
        self.suppressed.get_or_create_owned(&[("kind", kind)])
    }
}

/// Writes lines from here on. A second call in one process (tests) keeps the first one's.
pub(super) fn init(json: bool, lines: Lines, counts: &LogCounts) -> Result<LogLevel, LevelError> {
    let (level, filter) = LogLevel::from_environment()?;
    let (filter, handle) = reload::Layer::new(filter);
    let suppressed = KINDS.map(|kind| counts.suppressed_of(kind));
    let layer = tracing_subscriber::fmt::layer().with_writer(lines);
    let format = Format::default().with_target(false);
    let layer = match json {
        true => {
            let event = Line { inner: format.json(), json, repeats: Repeats::default(), suppressed };
            layer.fmt_fields(JsonFields::new()).event_format(event).boxed()
        }
        false => {
            let inner = format.with_ansi(std::io::stderr().is_terminal());
            layer.event_format(Line { inner, json, repeats: Repeats::default(), suppressed }).boxed()
        }
    };
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
    Ok(level.on(handle))
}

/// A line as `inner` writes it, and whose request it belongs to.
struct Line<F> {
    inner: Format<F>,
    json: bool,
    repeats: Repeats,
    /// In the order of [`KINDS`].
    suppressed: [Counter; KINDS.len()],
}

impl<F> Line<F> {
    fn leave_out(&self, event: &Event<'_>) {
        let kind = kind_of(event.metadata().target());
        if let Some(n) = KINDS.iter().position(|known| *known == kind) {
            self.suppressed[n].inc();
        }
    }

    /// What every line says at its end.
    fn finish(&self, line: &str, left_out: u64, mut writer: Writer<'_>) -> fmt::Result {
        let id = cellar_trace::request_id();
        let id = id.as_deref();
        let line = line.trim_end();
        if !self.json {
            writer.write_str(line)?;
            if let Some(id) = id {
                write!(writer, " request_id={id}")?;
            }
            if left_out > 0 {
                write!(writer, " left_out={left_out}")?;
            }
            return writer.write_char('\n');
        }
        // An object, and an id has no character that JSON would have to escape.
        writer.write_str(line.strip_suffix('}').unwrap_or(line))?;
        if let Some(id) = id {
            write!(writer, ",\"request_id\":\"{id}\"")?;
        }
        if left_out > 0 {
            write!(writer, ",\"left_out\":{left_out}")?;
        }
        writer.write_str("}\n")
    }
}

impl<S, N, F> FormatEvent<S, N> for Line<F>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
    Format<F>: FormatEvent<S, N>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(left_out) = self.repeats.say(event) else {
            self.leave_out(event);
            return Ok(());
        };
        let mut line = String::with_capacity(256);
        self.inner.format_event(ctx, Writer::new(&mut line), event)?;
        self.finish(&line, left_out, writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::RequestId;
    use cellar_trace::{Begun, Tracer};
    use std::io;
    use std::pin::pin;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn line<F>(inner: Format<F>, json: bool) -> Line<F> {
        Line { inner, json, repeats: Repeats::default(), suppressed: KINDS.map(|_| Counter::default()) }
    }

    #[tokio::test]
    async fn a_line_of_a_request_has_its_id_and_one_of_none_has_none() {
        let kept = Kept::default();
        let writer = kept.clone();
        let inner = Format::default().with_target(false).json();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let layer = layer.fmt_fields(JsonFields::new()).event_format(line(inner, true));
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        let begun = Begun::new(&Tracer::off(), None, None, RequestId::new("r-7"));
        begun.run(pin!(async { tracing::warn!(shard = 3, "commit failed") })).await;
        tracing::warn!("topology is old");
        let text = kept.text();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["request_id"], "r-7");
        assert_eq!((&lines[0]["level"], &lines[0]["fields"]["shard"]), (&"WARN".into(), &3.into()));
        assert_eq!(lines[1].get("request_id"), None);
    }

    #[tokio::test]
    async fn many_lines_of_a_kind_are_a_few_and_all_of_another_are_there() {
        let kept = Kept::default();
        let writer = kept.clone();
        let inner = Format::default().with_target(false).with_ansi(false);
        let line = line(inner, false);
        let suppressed = line.suppressed.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).event_format(line);
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        for _ in 0..100 {
            tracing::error!(cell = "eu-1", "a cell did not take a call");
        }
        tracing::error!(cell = "eu-2", "another cell did not take a call");
        assert_eq!(kept.text().lines().count(), 6, "{}", kept.text());
        assert_eq!(suppressed.iter().map(Counter::get).sum::<u64>(), 95);
    }
}

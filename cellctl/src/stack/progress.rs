//! What a long start is doing: one moving line on a terminal, plain lines elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(100);

pub(crate) struct Progress {
    /// None where nobody watches.
    bar: Option<ProgressBar>,
    began: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, began: Instant::now() }
    }

    pub(crate) fn say(&self, step: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        match &self.bar {
            Some(bar) => bar.set_message(step.to_owned()),
            None => eprintln!("  {seconds:5.1} s  {step}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

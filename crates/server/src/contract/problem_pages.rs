//! A page a type of problem, at the path that `type` names.

use super::document::rows;
use super::guidance::guidance;
use super::page::{escape, inline, page};
use cellar_model::{Problem, ProblemType};

/// `/problems`
pub(super) fn index() -> String {
    let mut body = String::from(
        "<p><a href=\"/docs\">Reference</a></p>\n<h1>Problems</h1>\n<p>Every answer that is not what was asked for is an \
         RFC 9457 document, <code>application/problem+json</code>. These are their types.</p>\n\
         <table><tr><th>type</th><th>status</th><th>title</th></tr>\n",
    );
    for kind in ProblemType::ALL {
        let (slug, title) = (kind.slug(), escape(kind.title()));
        body.push_str(&format!(
            "<tr><td><a href=\"/problems/{slug}\">{slug}</a></td><td>{}</td><td>{title}</td></tr>\n",
            kind.status()
        ));
    }
    body.push_str("</table>");
    page("Problems", &body)
}

/// `/problems/<slug>`
pub(super) fn page_of(kind: ProblemType) -> String {
    let guidance = guidance(kind);
    let example = serde_json::Value::from(Problem::new(kind).to_json());
    let example = serde_json::to_string_pretty(&example).unwrap_or_default();
    let asked = rows().filter(|row| row.all_problems().contains(&kind));
    let asked: Vec<String> = asked
        .map(|row| {
            let method = row.method.to_uppercase();
            format!(
                "<li><a href=\"/docs#{}\"><code>{method} {}</code></a> {}</li>",
                row.id,
                row.path,
                escape(row.summary)
            )
        })
        .collect();
    let asked =
        if asked.is_empty() { String::new() } else { format!("<h3>Where</h3>\n<ul>{}</ul>\n", asked.join("\n")) };
    let body = format!(
        "<p><a href=\"/docs\">Reference</a> · <a href=\"/problems\">Problems</a></p>\n<h1>{}</h1>\n\
         <table><tr><th>type</th><td><code>{}</code></td></tr><tr><th>status</th><td>{}</td></tr></table>\n\
         <h3>What it means</h3>\n<p>{}</p>\n<h3>What to do</h3>\n<p>{}</p>\n\
         <h3>Example</h3>\n<pre><code>{}</code></pre>\n{asked}",
        escape(kind.title()),
        escape(&kind.uri()),
        kind.status(),
        inline(guidance.meaning),
        inline(guidance.what_to_do),
        escape(&example),
    );
    page(kind.title(), &body)
}

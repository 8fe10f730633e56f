//! What all pages have in common: their frame, their style, and how text becomes HTML.

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--quiet:#5b6470;--line:#d8dde3;--ground:#fff;--block:#f4f6f8;--accent:#0b5cad}\
@media(prefers-color-scheme:dark){:root{--ink:#e4e7eb;--quiet:#9aa4b0;--line:#343b44;--ground:#14171b;--block:#1d2228;--accent:#7ab7ff}}\
*{box-sizing:border-box}\
body{margin:0 auto;max-width:62rem;padding:1.5rem;font:16px/1.55 system-ui,sans-serif;color:var(--ink);background:var(--ground)}\
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}\
h1{font-size:1.6rem;margin:.2rem 0 1rem}h2{font-size:1.25rem;margin:2.5rem 0 .6rem}h3{font-size:1rem;margin:1.4rem 0 .4rem}\
code,pre{font:14px/1.5 ui-monospace,monospace}code{background:var(--block);padding:.05rem .25rem;border-radius:3px}\
pre{background:var(--block);border:1px solid var(--line);border-radius:6px;padding:.7rem;overflow-x:auto}pre code{padding:0}\
table{border-collapse:collapse;width:100%;display:block;overflow-x:auto}td,th{border-bottom:1px solid var(--line);padding:.35rem .6rem .35rem 0;text-align:left;vertical-align:top}\
th{font-weight:600;color:var(--quiet)}.quiet{color:var(--quiet)}\
section{border-top:1px solid var(--line);margin-top:2rem}\
.method{display:inline-block;min-width:4.2rem;font-weight:700;color:var(--accent);text-transform:uppercase;font-size:.85rem}\
:target{scroll-margin-top:1rem}";

/// A whole page.
pub(super) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n",
        escape(title)
    )
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Prose of the document: paragraphs, `code`, and [links](/somewhere).
pub(super) fn prose(text: &str) -> String {
    let paragraphs = text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty());
    paragraphs.map(|paragraph| format!("<p>{}</p>\n", inline(paragraph))).collect()
}

/// Prose within a line.
pub(super) fn inline(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + 32);
    for (n, part) in text.split('`').enumerate() {
        match n % 2 {
            0 => html.push_str(&linked(part)),
            _ => html.push_str(&format!("<code>{}</code>", escape(part))),
        }
    }
    html
}

fn linked(text: &str) -> String {
    let Some((before, rest)) = text.split_once('[') else { return escape(text) };
    match rest.split_once("](").and_then(|(name, rest)| Some((name, rest.split_once(')')?))) {
        Some((name, (target, after))) => {
            format!("{}<a href=\"{}\">{}</a>{}", escape(before), escape(target), escape(name), linked(after))
        }
        None => escape(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_becomes_html_and_nothing_else_does() {
        assert_eq!(prose("a `<b>`\n\nc"), "<p>a <code>&lt;b&gt;</code></p>\n<p>c</p>\n");
        assert_eq!(inline("[x](/y) & [z"), "<a href=\"/y\">x</a> &amp; [z");
        assert_eq!(inline("\"<script>\""), "&quot;&lt;script&gt;&quot;");
    }
}

//! The document as a page for people.

use super::document::rows;
use super::page::{self, escape, inline, prose};
use serde_json::Value;

/// `/docs`
pub(super) fn page(document: &Value) -> String {
    let info = &document["info"];
    let title = format!("{} {}", text(&info["title"]), text(&info["version"]));
    let mut body = format!("<h1>{}</h1>\n{}", escape(&title), prose(text(&info["description"])));
    body.push_str(
        "<p><a href=\"/openapi.json\">The document for tools</a> (OpenAPI 3.1) · <a href=\"/problems\">Problems</a> · \
         <a href=\"#schemas\">Schemas</a></p>\n",
    );
    let operations = operations(document);
    for tag in members(&document["tags"]) {
        let name = text(&tag["name"]);
        body.push_str(&format!("<h2>{}</h2>\n<p>{}</p>\n<table>\n", escape(name), inline(text(&tag["description"]))));
        for one in operations.iter().filter(|one| one.operation["tags"][0] == name) {
            body.push_str(&one.line());
        }
        body.push_str("</table>\n");
    }
    body.push_str("<h2>Credentials</h2>\n<p>In <code>Authorization: Bearer …</code>:</p>\n<table>\n");
    for (name, scheme) in entries(&document["components"]["securitySchemes"]) {
        let (form, said) = (escape(text(&scheme["bearerFormat"])), inline(text(&scheme["description"])));
        body.push_str(&format!("<tr><td>{name}</td><td><code>{form}</code></td><td>{said}</td></tr>\n"));
    }
    body.push_str("</table>\n");
    operations.iter().for_each(|one| body.push_str(&one.section()));
    body.push_str("<h2 id=\"schemas\">Schemas</h2>\n");
    for (name, schema) in entries(&document["components"]["schemas"]) {
        body.push_str(&format!("<h3 id=\"schema-{name}\">{name}</h3>\n<pre><code>{}</code></pre>\n", pretty(schema)));
    }
    page::page(&title, &body)
}

struct Served<'d> {
    method: &'d str,
    path: &'d str,
    operation: &'d Value,
}

/// In the order of the rows; what has none comes last.
fn operations(document: &Value) -> Vec<Served<'_>> {
    let mut all: Vec<Served<'_>> = entries(&document["paths"])
        .flat_map(|(path, item)| entries(item).map(move |(method, operation)| Served { method, path, operation }))
        .collect();
    let place = |one: &Served<'_>| {
        rows().position(|row| row.path == one.path && row.method == one.method).unwrap_or(usize::MAX)
    };
    all.sort_by_key(place);
    all
}

impl Served<'_> {
    fn id(&self) -> &str {
        text(&self.operation["operationId"])
    }

    fn line(&self) -> String {
        format!(
            "<tr><td><span class=\"method\">{}</span></td><td><a href=\"#{}\"><code>{}</code></a></td><td>{}</td></tr>\n",
            self.method,
            escape(self.id()),
            escape(self.path),
            inline(text(&self.operation["summary"]))
        )
    }

    fn section(&self) -> String {
        let operation = self.operation;
        let mut html = format!(
            "<section id=\"{}\">\n<h2><span class=\"method\">{}</span> <code>{}</code></h2>\n<p><strong>{}</strong></p>\n{}",
            escape(self.id()),
            self.method,
            escape(self.path),
            inline(text(&operation["summary"])),
            prose(text(&operation["description"]))
        );
        html.push_str(&format!("<p class=\"quiet\">{}</p>\n", escape(&credentials(&operation["security"]))));
        html.push_str(&parameters(&operation["parameters"]));
        let body = &operation["requestBody"]["content"]["application/json"];
        if !body.is_null() {
            html.push_str(&format!("<h3>Body: {}</h3>\n", schema_link(&body["schema"])));
        }
        html.push_str(&self.examples());
        html.push_str("<h3>Answers</h3>\n<table>\n");
        for (status, answer) in entries(&operation["responses"]) {
            html.push_str(&answer_row(status, answer));
        }
        html.push_str("</table>\n</section>\n");
        html
    }

    fn examples(&self) -> String {
        let content = |of: &Value| of["content"]["application/json"]["examples"].clone();
        let asked = content(&self.operation["requestBody"]);
        let mut html = String::new();
        for (name, example) in entries(&asked) {
            let summary = inline(text(&example["summary"]));
            html.push_str(&format!(
                "<h3>Example: {summary}</h3>\n<pre><code>{}</code></pre>\n",
                pretty(&example["value"])
            ));
            html.push_str(&self.answer(name));
        }
        if asked.is_null() {
            let answers = entries(&self.operation["responses"]).map(|(_, answer)| content(answer));
            for (name, example) in answers.flat_map(|named| named.as_object().cloned().unwrap_or_default()) {
                html.push_str(&format!("<h3>Example: {}</h3>\n", inline(text(&example["summary"]))));
                html.push_str(&self.answer(&name));
            }
        }
        html
    }

    /// What answers the example of this name.
    fn answer(&self, name: &str) -> String {
        let found = entries(&self.operation["responses"]).find_map(|(status, answer)| {
            let value = &answer["content"]["application/json"]["examples"][name]["value"];
            (!value.is_null()).then_some((status, value))
        });
        found.map_or_else(String::new, |(status, value)| {
            format!("<p class=\"quiet\">{status}</p>\n<pre><code>{}</code></pre>\n", pretty(value))
        })
    }
}

fn credentials(security: &Value) -> String {
    let one = |requirement: &Value| match entries(requirement).next() {
        None => "no credential".to_owned(),
        Some(("sessionToken", _)) => "a session token".to_owned(),
        Some((_, scopes)) => format!("a service key with the scope {}", text(&scopes[0])),
    };
    let all: Vec<String> = members(security).map(one).collect();
    format!("Needs {}.", all.join(", or "))
}

fn parameters(parameters: &Value) -> String {
    let mut rows = String::new();
    for parameter in members(parameters) {
        rows.push_str(&format!(
            "<tr><td><code>{}</code></td><td class=\"quiet\">{}</td><td>{}</td></tr>\n",
            escape(text(&parameter["name"])),
            text(&parameter["in"]),
            inline(text(&parameter["description"]))
        ));
    }
    if rows.is_empty() { rows } else { format!("<h3>Parameters</h3>\n<table>\n{rows}</table>\n") }
}

fn answer_row(status: &str, answer: &Value) -> String {
    let body = answer["content"]["application/json"]["schema"]
        .as_object()
        .map(|_| format!(": {}", schema_link(&answer["content"]["application/json"]["schema"])));
    let headers: Vec<String> =
        entries(&answer["headers"]).map(|(name, _)| format!("<code>{}</code>", escape(name))).collect();
    format!(
        "<tr><td>{status}</td><td>{}{}</td><td class=\"quiet\">{}</td></tr>\n",
        inline(text(&answer["description"])),
        body.unwrap_or_default(),
        headers.join(" ")
    )
}

fn schema_link(schema: &Value) -> String {
    let name = text(&schema["$ref"]).rsplit('/').next().unwrap_or_default();
    format!("<a href=\"#schema-{name}\">{name}</a>")
}

fn pretty(value: &Value) -> String {
    escape(&serde_json::to_string_pretty(value).unwrap_or_default())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn members(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

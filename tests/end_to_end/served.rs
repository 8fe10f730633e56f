//! The document that a stack serves, as tests read it: operations, examples, and what may answer.

use crate::support::World;
use boon::{Compiler, SchemaIndex, Schemas};
use reqwest::{Method, RequestBuilder};
use serde_json::{Map, Value};

/// Any absolute address: nothing is fetched from it.
const PLACE: &str = "https://cellar.invalid/openapi.json";

/// A public cell, and a router before a cell: both serve the whole contract.
pub const DOORS: [&[&str]; 2] = [&["cell", "up"], &["up", "--regions", "1", "--cells", "1"]];

pub struct Served {
    pub http: reqwest::Client,
    pub url: String,
    pub key: String,
    pub document: Value,
}

/// An answer that has come whole.
pub struct Came {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    pub body: Value,
}

impl Came {
    pub async fn of(request: RequestBuilder) -> Came {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Came { status, headers, text, body }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap_or("")
    }
}

/// One method of one path.
#[derive(Clone)]
pub struct Operation {
    pub id: String,
    pub method: Method,
    pub path: String,
    pub document: Value,
}

impl Served {
    pub async fn of(world: &World) -> Served {
        let (http, url) = (reqwest::Client::new(), world.urls[0].clone());
        let document = http.get(format!("{url}/openapi.json")).send().await.unwrap().json().await.unwrap();
        Served { http, url, key: world.service_key.clone(), document }
    }

    pub fn operations(&self) -> Vec<Operation> {
        let paths = self.document["paths"].as_object().unwrap();
        let all = paths.iter().flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(|(method, document)| Operation {
                id: document["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                document: document.clone(),
            })
        });
        all.collect()
    }

    pub fn operation(&self, id: &str) -> Operation {
        let named = self.operations().into_iter().find(|operation| operation.id == id);
        named.unwrap_or_else(|| panic!("no operation {id}"))
    }

    /// A request with these parameters, by `place.name`, and no credential.
    pub fn request(&self, operation: &Operation, parameters: &[(String, String)]) -> RequestBuilder {
        let (mut path, mut query, mut headers) = (operation.path.clone(), Vec::new(), Vec::new());
        for (name, value) in parameters {
            match name.split_once('.').unwrap() {
                ("path", name) => path = path.replace(&format!("{{{name}}}"), value),
                ("query", name) => query.push(format!("{name}={value}")),
                (_, name) => headers.push((name.to_owned(), value.clone())),
            }
        }
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let request = self.http.request(operation.method.clone(), format!("{}{path}{query}", self.url));
        headers.into_iter().fold(request, |request, (name, value)| request.header(name, value))
    }

    /// What the document says wrongly of an answer, or nothing.
    pub fn fault(&self, operation: &Operation, came: &Came) -> Option<String> {
        let status = came.status.to_string();
        let answer = &operation.document["responses"][&status];
        if answer.is_null() {
            return Some(format!("{status} is not documented: {}", came.text));
        }
        for (name, reference) in answer["headers"].as_object().unwrap() {
            let pointer = reference["$ref"].as_str().unwrap().trim_start_matches('#');
            let required = self.document.pointer(pointer).unwrap()["required"] == true;
            if required && came.header(name).is_empty() {
                return Some(format!("{status} comes without {name}"));
            }
        }
        let Some(content) = answer["content"].as_object() else {
            return (!came.text.is_empty()).then(|| format!("{status} has a body: {}", came.text));
        };
        let Some(kind) = content.keys().find(|kind| came.header("content-type") == *kind) else {
            return Some(format!("{status} comes as {:?}", came.header("content-type")));
        };
        let part = [
            &operation.path,
            operation.method.as_str().to_lowercase().as_str(),
            "responses",
            &status,
            "content",
            kind,
            "schema",
        ]
        .map(escaped)
        .join("/");
        let error = self.validate(&format!("/paths/{part}"), &came.body).err()?;
        Some(format!("{status} does not fit its schema: {error}: {}", came.text))
    }

    /// By the schema at a JSON pointer into the document, each part escaped for an address.
    pub fn validate(&self, pointer: &str, value: &Value) -> Result<(), String> {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.enable_format_assertions();
        compiler.add_resource(PLACE, self.document.clone()).unwrap();
        let at: SchemaIndex = compiler.compile(&format!("{PLACE}#{pointer}"), &mut schemas).unwrap();
        schemas.validate(value, at).map_err(|error| format!("{error:#}"))
    }
}

impl Operation {
    /// The examples by name: parameters by `place.name`, and the body.
    pub fn examples(&self) -> Map<String, Value> {
        let mut all = Map::new();
        let mut note = |name: &str, part: &str, value: &Value| {
            let example = all.entry(name).or_insert_with(|| serde_json::json!({"parameters": {}}));
            match part {
                "body" | "answer" => example[part] = value.clone(),
                parameter => example["parameters"][parameter] = value.clone(),
            }
        };
        for parameter in self.document["parameters"].as_array().unwrap() {
            let place = format!("{}.{}", parameter["in"].as_str().unwrap(), parameter["name"].as_str().unwrap());
            let named = parameter["examples"].as_object().into_iter().flatten();
            named.for_each(|(name, example)| note(name, &place, &example["value"]));
        }
        let json = |of: &Value| of["content"]["application/json"]["examples"].as_object().cloned().unwrap_or_default();
        json(&self.document["requestBody"]).iter().for_each(|(name, example)| note(name, "body", &example["value"]));
        for answer in self.document["responses"].as_object().unwrap().values() {
            json(answer).iter().for_each(|(name, example)| note(name, "answer", &example["value"]));
        }
        all
    }

    /// The status of what was asked for.
    pub fn success(&self) -> u16 {
        let statuses = self.document["responses"].as_object().unwrap().keys();
        statuses.map(|status| status.parse().unwrap()).find(|status| (200..300).contains(status)).unwrap()
    }

    pub fn takes_body(&self) -> bool {
        !self.document["requestBody"].is_null()
    }
}

/// A part of a JSON pointer within the fragment of an address.
fn escaped(part: &str) -> String {
    part.replace('~', "~0").replace('/', "~1").replace('{', "%7B").replace('}', "%7D").replace('+', "%2B")
}

/// The parameters of an example, as `Served::request` takes them.
pub fn parameters(example: &Value) -> Vec<(String, String)> {
    let named = example["parameters"].as_object().unwrap();
    named.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

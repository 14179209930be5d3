use super::fake::Gateway;
use gateway_control::{OPENAPI, routes};
use serde_json::Value;
use std::collections::BTreeSet;

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

#[test]
fn the_document_has_exactly_the_routes_that_there_are() {
    let document = document();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            documented.insert((method.to_uppercase(), path.clone()));
        }
    }
    let routes: BTreeSet<_> = routes().into_iter().map(|(method, path)| (method.to_owned(), path)).collect();
    assert_eq!(documented, routes);
}

#[test]
fn every_reference_leads_somewhere_and_every_operation_is_complete() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            assert!(operation["responses"]["200"].is_object() && operation["summary"].is_string(), "{path}");
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{path}: operationId twice");
            parameters_fit(path, operation);
            for requirement in operation["security"].as_array().unwrap() {
                for scheme in requirement.as_object().unwrap().keys() {
                    assert!(
                        document["components"]["securitySchemes"][scheme].is_object(),
                        "{path}: {scheme}"
                    );
                }
            }
        }
    }
}

fn parameters_fit(path: &str, operation: &Value) {
    let empty = Vec::new();
    let parameters = operation["parameters"].as_array().unwrap_or(&empty);
    let in_path: BTreeSet<&str> = parameters
        .iter()
        .filter(|one| one["in"] == "path")
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    let named: BTreeSet<&str> = path.split('{').skip(1).map(|part| part.split('}').next().unwrap()).collect();
    assert_eq!(in_path, named, "{path}");
    for parameter in parameters {
        assert!(
            parameter["schema"].is_object() && parameter["description"].is_string(),
            "{path}: {parameter}"
        );
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            references.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

#[test]
fn every_status_that_is_seen_is_documented() {
    let gateway = Gateway::start("api_key = \"k\"\n");
    let document = document();
    for (method, path) in routes() {
        let concrete = path.replace("{connection}", "0000000000000001").replace("{room}", "live:%2F%2F1");
        for headers in
            [&[("content-type", "application/json")][..], &[("x-api-key", "k")], &[("x-api-key", "wrong")]]
        {
            let answer = gateway.call(method, &concrete, headers, b"");
            let responses = &document["paths"][&path][method.to_lowercase()]["responses"];
            let status = answer.status.to_string();
            assert!(responses[&status].is_object(), "{method} {path} answered {status}: {}", answer.text);
        }
    }
}

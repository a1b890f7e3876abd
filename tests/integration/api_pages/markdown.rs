//! Renders an API description (OpenAPI 3.1) as Markdown pages: one for each group of operations, one
//! for all types, and an index.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value};

const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];
const TYPES_PAGE: &str = "types.md";
const GENERATED: &str = "This page is generated from the API description: \
    `SEQUOR_WRITE_PAGES=1 cargo test --test integration api_pages`\nwrites it. A test fails if the page differs.";

/// A group of operations: the tag of the API description, and the page that explains its use.
pub(super) const GROUPS: [(&str, &str); 8] = [
    ("events", "[Sending events](../sending-events.md)"),
    ("recommendations", "[Recommendations](../recommendations.md)"),
    ("users", "[Privacy](../privacy.md)"),
    ("catalog", "[Catalog](../catalog.md)"),
    ("placements", "[Placements and rules](../placements.md)"),
    ("reports", "[Attribution](../attribution.md)"),
    ("segment", "[From Segment's libraries](../sending-events.md#from-segments-libraries)"),
    ("description", "[Getting started](../getting-started.md)"),
];

/// The pages by file name.
pub(super) fn render_pages(document: &Value) -> BTreeMap<String, String> {
    let mut pages: BTreeMap<_, _> =
        GROUPS.iter().map(|(tag, guide)| (format!("{tag}.md"), group_page(document, tag, guide))).collect();
    pages.insert(TYPES_PAGE.to_owned(), types_page(document));
    pages.insert("index.md".to_owned(), index_page(document));
    pages
}

/// Appends formatted text. Writing to a string cannot fail.
macro_rules! append {
    ($page:expr, $($text:tt)*) => { write!($page, $($text)*).unwrap() };
}

fn index_page(document: &Value) -> String {
    let mut page = format!("# API reference\n\n{GENERATED}\n\n{}\n\n", text(&document["info"]["description"]));
    page += "The daemon serves the description itself at `/openapi.json`. [Problems](../problems.md) describes the \
             errors, and\n[Security](../security.md#api-keys) the keys and their scopes.\n\n\
             | group | contents | operations |\n|---|---|---|\n";
    for (tag, _) in GROUPS {
        let names: Vec<_> = operations(document, tag).iter().map(Operation::name).map(|name| code(&name)).collect();
        append!(page, "| [{tag}]({tag}.md) | {} | {} |\n", tag_description(document, tag), names.join("<br>"));
    }
    append!(page, "\n[Types]({TYPES_PAGE}) lists the fields of all bodies.\n\nEvery operation can return:\n");
    let common = common_responses(document);
    append_responses(
        &mut page,
        &common.iter().map(|(status, response)| (status.as_str(), response)).collect::<Vec<_>>(),
    );
    page
}

fn group_page(document: &Value, tag: &str, guide: &str) -> String {
    let title = format!("{}{}", tag[..1].to_uppercase(), &tag[1..]);
    let mut page = format!(
        "# API: {title}\n\n{GENERATED}\n\n{} Guide: {guide}.\n\n| operation | | scope of the key |\n|---|---|---|\n",
        tag_description(document, tag)
    );
    let found = operations(document, tag);
    for operation in &found {
        let summary = text(&operation.content["summary"]);
        append!(page, "| {} | [{summary}](#{}) | {} |\n", code(&operation.name()), anchor(&summary), operation.scope());
    }
    let common = common_responses(document);
    for operation in &found {
        append_operation(&mut page, operation, &common);
    }
    page
}

/// Appends the section of an operation. The index lists the `common` responses.
fn append_operation(page: &mut String, operation: &Operation<'_>, common: &Map<String, Value>) {
    let content = operation.content;
    append!(page, "\n## {}\n\n{}\n", text(&content["summary"]), code(&operation.name()));
    let description = text(&content["description"]);
    if !description.is_empty() {
        append!(page, "\n{description}\n");
    }
    if let Some(parameters) = content["parameters"].as_array().filter(|all| !all.is_empty()) {
        *page += "\n| parameter | in | type | description |\n|---|---|---|---|\n";
        for parameter in parameters {
            let schema = &parameter["schema"];
            append!(
                page,
                "| {} | {} | {} | {} |\n",
                code(parameter["name"].as_str().unwrap()),
                parameter["in"].as_str().unwrap(),
                cell(&type_text(schema)),
                cell(&described(&text(&parameter["description"]), schema, &parameter["example"]))
            );
        }
    }
    if let Some(body) = content["requestBody"]["content"].as_object() {
        let media: Vec<_> = body.keys().map(|name| code(name)).collect();
        let schema = &body.values().next().unwrap()["schema"];
        append!(page, "\nBody ({}): {}\n", media.join(", "), type_text(schema));
        if let Some(example) = body.values().map(|media| &media["example"]).find(|example| !example.is_null()) {
            append_example(page, example);
        }
    }
    let responses = content["responses"].as_object().unwrap().iter();
    let own = responses.filter(|(status, response)| common.get(*status) != Some(*response));
    append_responses(page, &own.map(|(status, response)| (status.as_str(), response)).collect::<Vec<_>>());
}

fn append_responses(page: &mut String, responses: &[(&str, &Value)]) {
    *page += "\n| status | meaning | body |\n|---|---|---|\n";
    for (status, response) in responses {
        let body = response["content"].as_object().and_then(|content| content.iter().next());
        let body = body.map_or_else(String::new, |(media, body)| {
            if body["schema"].is_null() { code(media) } else { type_text(&body["schema"]) }
        });
        append!(page, "| {status} | {} | {} |\n", cell(&text(&response["description"])), cell(&body));
    }
}

/// The responses that all operations have.
fn common_responses(document: &Value) -> Map<String, Value> {
    let mut all = GROUPS.iter().flat_map(|(tag, _)| operations(document, tag)).map(|found| &found.content["responses"]);
    let mut common = all.next().unwrap().as_object().unwrap().clone();
    for responses in all {
        common.retain(|status, response| responses[status.as_str()] == *response);
    }
    common
}

fn types_page(document: &Value) -> String {
    let mut page = format!("# API: types\n\n{GENERATED}\n");
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        append!(page, "\n## {name}\n");
        let description = text(&schema["description"]);
        if !description.is_empty() {
            append!(page, "\n{description}\n");
        }
        let fields = fields_of(schema);
        if fields.is_empty() {
            append!(page, "\nA value: {}.\n", type_text(schema));
        } else {
            append_fields(&mut page, &fields);
        }
        append_example(&mut page, &schema["example"]);
    }
    page
}

/// A field of an object: its name, its schema, and whether the object must have it.
type Field<'d> = (&'d str, &'d Value, bool);

/// The fields of an object, also of an object that consists of several parts.
fn fields_of(schema: &Value) -> Vec<Field<'_>> {
    if let Some(parts) = schema["allOf"].as_array() {
        return parts.iter().flat_map(fields_of).collect();
    }
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties.map(|(name, field)| (name.as_str(), field, required.contains(&name.as_str()))).collect()
}

fn append_fields(page: &mut String, fields: &[Field<'_>]) {
    *page += "\n| field | type | required | description |\n|---|---|---|---|\n";
    for (name, schema, is_required) in fields {
        append!(
            page,
            "| {} | {} | {} | {} |\n",
            code(name),
            cell(&type_text(schema)),
            if *is_required { "yes" } else { "" },
            cell(&described(&schema_description(schema), schema, &schema["example"]))
        );
    }
}

fn append_example(page: &mut String, example: &Value) {
    if !example.is_null() {
        append!(page, "\n```json\n{}\n```\n", serde_json::to_string_pretty(example).unwrap());
    }
}

/// An operation of the API.
struct Operation<'d> {
    method: &'d str,
    path: &'d str,
    content: &'d Value,
}

impl Operation<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.method.to_uppercase(), self.path)
    }

    /// The scope that a key needs; a public operation has none.
    fn scope(&self) -> String {
        let schemes = self.content["security"].as_array().into_iter().flatten().filter_map(Value::as_object);
        let scope = schemes.flat_map(Map::values).find_map(|scopes| scopes[0].as_str());
        scope.map_or_else(|| "no key".to_owned(), code)
    }
}

fn operations<'d>(document: &'d Value, tag: &str) -> Vec<Operation<'d>> {
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in METHODS {
            let content = &methods[method];
            if content["tags"].as_array().is_some_and(|tags| tags.iter().any(|other| other == tag)) {
                found.push(Operation { method, path, content });
            }
        }
    }
    found
}

fn tag_description(document: &Value, tag: &str) -> String {
    let tags = document["tags"].as_array().unwrap();
    text(&tags.iter().find(|other| other["name"] == tag).unwrap()["description"])
}

/// The description of a schema, also if the schema allows null as well.
fn schema_description(schema: &Value) -> String {
    let alternatives = schema["oneOf"].as_array().into_iter().flatten();
    let all = std::iter::once(schema).chain(alternatives).map(|schema| text(&schema["description"]));
    all.into_iter().find(|description| !description.is_empty()).unwrap_or_default()
}

/// A description with the range, the default and the example of a value.
fn described(description: &str, schema: &Value, example: &Value) -> String {
    let mut parts: Vec<_> =
        [description.to_owned(), limits(schema)].into_iter().filter(|part| !part.is_empty()).collect();
    if !schema["default"].is_null() {
        parts.push(format!("Default: {}.", json_code(&schema["default"])));
    }
    if !example.is_null() {
        parts.push(format!("Example: {}.", json_code(example)));
    }
    parts.join(" ")
}

/// The range or the size of a value.
fn limits(schema: &Value) -> String {
    let limit = |name: &str| schema[name].as_number().map(ToString::to_string);
    let range = match (limit("minimum"), limit("maximum")) {
        (Some(least), Some(most)) => format!("{least} to {most}."),
        (Some(least), None) if least != "0" => format!("At least {least}."),
        (None, Some(most)) => format!("At most {most}."),
        _ => String::new(),
    };
    let sizes = [("maxLength", "characters"), ("maxItems", "entries"), ("maxProperties", "fields")];
    let sizes = sizes.map(|(name, unit)| limit(name).map(|most| format!("At most {most} {unit}.")));
    let all = std::iter::once(range).chain(sizes.into_iter().flatten());
    all.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The type of a value, with links to named types.
fn type_text(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        return format!("[{name}]({TYPES_PAGE}#{})", anchor(name));
    }
    let joined = |parts: &Value, word: &str| {
        parts.as_array().map(|parts| parts.iter().map(type_text).collect::<Vec<_>>().join(word))
    };
    if let Some(text) = joined(&schema["oneOf"], " or ").or_else(|| joined(&schema["anyOf"], " or ")) {
        return text;
    }
    if let Some(text) = joined(&schema["allOf"], " with ") {
        return text;
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(json_code).collect::<Vec<_>>().join(", ");
    }
    let names: Vec<_> = match &schema["type"] {
        Value::Array(names) => names.iter().map(|name| single_type(name.as_str().unwrap(), schema)).collect(),
        Value::String(name) => vec![single_type(name, schema)],
        _ => vec!["any value".to_owned()],
    };
    names.join(" or ")
}

fn single_type(name: &str, schema: &Value) -> String {
    match name {
        "array" => format!("array of {}", inner_type(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("object of {}", inner_type(&schema["additionalProperties"]))
        }
        "string" if schema["format"].is_string() => format!("string ({})", schema["format"].as_str().unwrap()),
        _ => name.to_owned(),
    }
}

/// The type of the elements of a value.
fn inner_type(schema: &Value) -> String {
    let text = type_text(schema);
    if text.contains(" or ") { format!("({text})") } else { text }
}

/// The text of a description on one line.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn json_code(value: &Value) -> String {
    code(&value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned))
}

/// A text inside of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The anchor of a heading, as GitHub and mdBook name it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter)).collect()
}

//! The OpenAPI document: generated from the handlers, completed here with what all of them share.

use serde_json::json;
use utoipa::OpenApi;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{OpenApi as Document, Ref, RefOr, ResponseBuilder};

use crate::problem::{Code, Fault, Problem, ProblemBody};
use crate::routes::catalog::ModeWord;
use crate::routes::letter_view::{ActionWord, ReasonWord, StateWord};
use crate::routes::usage::Granularity;

/// What the document begins with.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Pulso",
        description = "Usage, charges and invoices, explained down to the pulse.\n\n\
            Decimals are strings, counts are numbers, times are RFC 3339 in UTC, ranges are half-open. Errors are \
            problem details (RFC 9457) with a stable `code`. A parameter that an operation does not name is an error. \
            Lists answer `next_page_token` until their last page; a token belongs to the request it was given out for.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/", description = "This server.")),
    tags(
        (name = "tenants", description = "Who is metered and billed."),
        (name = "usage", description = "Quantities, before any price."),
        (name = "money", description = "Charges and invoices."),
        (name = "pulses", description = "Single measurements."),
        (name = "operations", description = "Is everything accounted for?"),
        (name = "catalog", description = "What things cost."),
    ),
    components(schemas(ProblemBody<'_>, Code, Fault, Granularity, ModeWord, ReasonWord, StateWord, ActionWord)),
)]
pub(crate) struct Start;

/// Adds to each operation the answers that any of its kind can have.
pub(crate) fn complete(mut document: Document) -> Document {
    for (path, item) in &mut document.paths.paths {
        for (operation, codes) in operations(path, item) {
            for code in codes {
                let status = code.status().as_u16().to_string();
                operation.responses.responses.entry(status).or_insert_with(|| problem(code, path));
            }
        }
    }
    document
}

/// The operations of a path, each with a code for every status that it can answer beside its own.
fn operations<'a>(path: &str, item: &'a mut PathItem) -> Vec<(&'a mut Operation, Vec<Code>)> {
    let mut shared = vec![Code::UnknownParameter, Code::NotAcceptable, Code::Internal, Code::PartitionHalted];
    let names_something = path.contains('{') || path.starts_with("/v1/dead-letters:");
    shared.extend(names_something.then_some(Code::NotFound));
    let read = [shared.as_slice(), &[Code::WaitTimeout]].concat();
    let of_bodies = [
        Code::RequestTimeout,
        Code::CatalogChanged,
        Code::BodyTooLarge,
        Code::UnsupportedMediaType,
        Code::InvalidCatalog,
    ];
    let written = [shared.as_slice(), &of_bodies].concat();
    let get = item.get.as_mut().map(|operation| (operation, read));
    let post = item.post.as_mut().map(|operation| (operation, written));
    get.into_iter().chain(post).collect()
}

/// The answer of a problem, with an example.
fn problem(code: Code, path: &str) -> RefOr<utoipa::openapi::Response> {
    let same_status = Code::ALL.into_iter().filter(|other| other.status() == code.status());
    let meanings: Vec<_> = same_status.map(|code| format!("`{}`: {}", code.as_str(), code.title())).collect();
    let example = Problem::new(code, "what is wrong in this request, and how to mend it");
    let example = serde_json::to_value(ProblemBody::new(&example, path)).unwrap_or(json!(null));
    let content = ContentBuilder::new()
        .schema(Some(RefOr::Ref(Ref::from_schema_name("Problem"))))
        .example(Some(example))
        .build();
    ResponseBuilder::new()
        .description(meanings.join("; "))
        .content("application/problem+json", content)
        .build()
        .into()
}

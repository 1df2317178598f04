//! The pages for people: where to begin, what the codes mean, the reference. Nothing is loaded from elsewhere.

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::problem::Code;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#16202c;--soft:#5b6b7c;--line:#d9e0e7;--back:#f7f9fb;--card:#fff;--accent:#0a6c74}\
@media(prefers-color-scheme:dark){:root{--ink:#e8eef4;--soft:#9fb0c0;--line:#2b3947;--back:#0f161d;--card:#17212b;\
--accent:#4fc3c9}}\
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);\
font:16px/1.6 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\
main{max-width:46rem;margin:0 auto;padding:4rem 1.5rem}h1{font-size:2.4rem;margin:0;letter-spacing:-.02em}\
p.lead{color:var(--soft);font-size:1.1rem;margin:.3rem 0 2.5rem}a{color:var(--accent);text-decoration:none}\
a:hover,a:focus-visible{text-decoration:underline}ul.cards{list-style:none;margin:0;padding:0;display:grid;gap:.8rem;\
grid-template-columns:repeat(auto-fit,minmax(15rem,1fr))}\
ul.cards li{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1rem 1.2rem}\
ul.cards a{font-weight:600}ul.cards span{display:block;color:var(--soft);font-size:.92rem}\
code{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:.9em}\
dt{margin-top:1.2rem;scroll-margin-top:1rem}dt:target{color:var(--accent)}dd{margin:0;color:var(--soft)}";

const CARDS: [(&str, &str, &str); 6] = [
    ("/docs", "Reference", "Every request, to read and to try."),
    ("/openapi.json", "OpenAPI 3.1", "The same, for programs."),
    ("/v1/ledger", "Ledger", "Every pulse accounted for, per partition."),
    ("/v1/tenants", "Tenants", "Who is metered and billed."),
    ("/v1/dead-letters", "Dead letters", "What could not be counted, and why."),
    ("/v1/catalog", "Catalog", "What things cost now."),
];

fn page(title: &str, lead: &str, body: &str) -> Html<String> {
    Html(format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1><p class=\"lead\">{lead}</p>{body}</main></body></html>\n"
    ))
}

/// Where to begin.
pub(crate) async fn home() -> Html<String> {
    let card = |(path, name, what): &(&str, &str, &str)| {
        format!("<li><a href=\"{path}\">{name}</a><span>{what}</span></li>")
    };
    let cards: String = CARDS.iter().map(card).collect();
    let body = format!("<ul class=\"cards\">{cards}</ul>");
    page("Pulso", "Usage metered exactly once, priced exactly, explained down to the pulse.", &body)
}

/// What the codes of problems mean.
pub(crate) async fn errors() -> Html<String> {
    let entry = |code: Code| {
        let (name, status) = (code.as_str(), code.status().as_u16());
        format!("<dt id=\"{name}\"><code>{name}</code> ({status})</dt><dd>{}</dd>", code.title())
    };
    let entries: String = Code::ALL.into_iter().map(entry).collect();
    let lead = "What the <code>code</code> of a problem means; its <code>detail</code> says how to mend it.";
    page("Errors", lead, &format!("<dl>{entries}</dl>"))
}

/// The OpenAPI document.
pub(crate) fn openapi(document: &str) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document.to_owned()).into_response()
}

/// The browsable reference.
pub(crate) fn docs() -> SwaggerUi {
    // The validator's badge would ask a third party.
    SwaggerUi::new("/docs").config(Config::from("/openapi.json").validator_url("none").use_base_layout())
}

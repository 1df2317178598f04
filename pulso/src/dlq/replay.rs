//! Sending many letters again: request by request, with a bar; what is done stays done when one fails.

use serde_json::{Map, Value, json};

use super::{ReplayArgs, Wanted, post, rejected, signed};
use crate::cli::exit::{Failure, Outcome};
use crate::cli::output::{self, Format};
use crate::cli::progress;
use crate::client::ApiAddress;
use crate::client::rest::entries;

/// Letters of one request: enough to be quick, few enough to see the bar move.
const LETTERS_PER_REQUEST: usize = 200;

const COLUMNS: [&str; 3] = ["id", "position", "tenant_id"];

/// Sends letters again.
pub(super) async fn run(args: &ReplayArgs, format: Format) -> Outcome {
    let request = signed(args.note.as_ref());
    let answer = each_page(&args.server, "replay", (request, &args.wanted), "replaying").await?;
    let document = json!({ "replayed": answer.done, "refused": answer.refused });
    output::rows(format, &document, &answer.done, &COLUMNS)?;
    answer.tell();
    Ok(rejected(&answer.refused))
}

/// What the requests together answered.
#[derive(Default)]
pub(super) struct Answers {
    /// What was done.
    pub(super) done: Vec<Value>,
    /// What was not, and why.
    pub(super) refused: Vec<Value>,
}

impl Answers {
    fn take(&mut self, answer: &Value) -> usize {
        let done = [entries(answer, "replayed"), entries(answer, "dropped")].concat();
        let refused = entries(answer, "refused");
        let count = done.len() + refused.len();
        self.done.extend(done);
        self.refused.extend_from_slice(refused);
        count
    }

    /// Says on stderr what was refused.
    pub(super) fn tell(&self) {
        self.refused.iter().for_each(tell_refused);
        output::note(format!("{} done, {} refused", self.done.len(), self.refused.len()));
    }
}

/// Why one letter was refused.
pub(super) fn tell_refused(refused: &Value) {
    let text = |name: &str| refused.get(name).and_then(Value::as_str).unwrap_or_default();
    let position = text("position");
    let place = if position.is_empty() { String::new() } else { format!(" (see {position})") };
    output::note(format!("{}: {}: {}{place}", text("id"), text("code"), text("detail")));
}

/// Asks for all wanted letters, some at a time.
pub(super) async fn each_page(
    server: &ApiAddress,
    verb: &str,
    (request, wanted): (Map<String, Value>, &Wanted),
    what: &str,
) -> Result<Answers, Failure> {
    let mut answers = Answers::default();
    let Some(filter) = wanted.filter() else {
        let bar = progress::bar(Some(wanted.ids.len() as u64), what);
        for ids in wanted.ids.chunks(LETTERS_PER_REQUEST) {
            let mut request = request.clone();
            request.insert("ids".to_owned(), json!(ids));
            let answer = post(server, verb, Value::Object(request)).await?;
            bar.inc(answers.take(&answer) as u64);
        }
        bar.finish_and_clear();
        return Ok(answers);
    };
    let bar = progress::bar(None, what);
    let mut request = request;
    request.insert("filter".to_owned(), filter);
    request.insert("page_size".to_owned(), json!(LETTERS_PER_REQUEST));
    loop {
        let answer = post(server, verb, Value::Object(request.clone())).await?;
        bar.inc(answers.take(&answer) as u64);
        let Some(token) = answer.get("next_page_token").cloned() else { break };
        request.insert("page_token".to_owned(), token);
    }
    bar.finish_and_clear();
    Ok(answers)
}

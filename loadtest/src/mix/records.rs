//! What the server has of a person: the marks in its export of them.

use std::cell::RefCell;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::ledger::Ledger;
use super::scenario::Mix;
use crate::http::{failure, Http};
use crate::outcome::{ErrorKind, Failure};

/// The marks of all records of a person, in the order of the export.
///
/// # Errors
/// The server does not answer, or a record carries no mark.
pub async fn of_person(http: &Http, user: &str, timeout: Duration) -> Result<Vec<String>, Failure> {
    let path = format!("v1/users/{user}/export");
    let text = http.text(http.request(Method::GET, &path), timeout).await?;
    marks(&text).map_err(|problem| failure(ErrorKind::Body, problem))
}

/// Compares everybody with the ledger. Returns (person, mark) of what had not been answered, and what is not as
/// it was acknowledged.
pub async fn compare(
    http: &Http,
    mix: &Mix,
    ledger: &RefCell<Ledger>,
) -> (Vec<(usize, String)>, Vec<String>) {
    let (mut unanswered, mut broken) = (Vec::new(), Vec::new());
    let people = ledger.borrow().people();
    for person in people {
        match of_person(http, &mix.user(person), mix.timeout).await {
            Ok(there) => match ledger.borrow_mut().compare(person, &there) {
                Ok(open) => unanswered.extend(open.into_iter().map(|mark| (person, mark))),
                Err(fault) => broken.push(fault),
            },
            Err(failure) => {
                let Failure { kind, message } = failure;
                broken.push(format!("person {person}: {kind}: {message}"));
            }
        }
    }
    (unanswered, broken)
}

fn marks(lines: &str) -> Result<Vec<String>, String> {
    let mut marks = Vec::new();
    for line in lines.lines() {
        let record: Value = serde_json::from_str(line).map_err(|e| format!("{line}: {e}"))?;
        let data = &record["data"];
        let mark = match record["kind"].as_str() {
            Some("completion") => &data["metadata"]["mark"],
            Some("feedback") => &data["comment"],
            Some("preference") => &data["chosen"]["text"],
            _ => continue,
        };
        let mark = mark.as_str().ok_or_else(|| format!("no mark: {line}"))?;
        marks.push(mark.to_owned());
    }
    Ok(marks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_mark_in_a_place_of_its_own() {
        let lines = r#"{"kind":"user","v":1,"data":{"user":"u"}}
{"kind":"completion","v":1,"data":{"metadata":{"mark":"m1"}}}
{"kind":"feedback","v":1,"data":{"comment":"m2"}}
{"kind":"preference","v":1,"data":{"chosen":{"text":"m3"}}}
"#;
        assert_eq!(marks(lines).unwrap(), ["m1", "m2", "m3"]);
        let without = r#"{"kind":"feedback","v":1,"data":{"comment":null}}"#;
        assert!(marks(without).unwrap_err().starts_with("no mark"));
        assert!(marks("{").is_err());
    }
}

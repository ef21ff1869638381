//! A `learn` report as text: a Markdown table, then what is not a rate.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::rates::Rate;
use super::report::{Count, Group, LearnReport, Stage};
use crate::stats::Errors;
use crate::table::{new_table, short};

/// The table of tastes, then one line for each thing that a reader should know.
pub fn render(report: &LearnReport) -> String {
    let mut table = new_table(&[
        "taste",
        "people",
        "preferences",
        "before",
        "after",
        "after / first generic",
        "their answers",
        "generic answers",
    ]);
    for group in &report.groups {
        table.add_row(row(group));
    }
    let mut text = format!(
        "{table}\nWin rates against the generic answer of that time; ties count half; in brackets the 95 % \
         bootstrap interval over people.\n\
         after / first generic: against the generic answers of before.\n"
    );
    notes(report, &mut text);
    text
}

fn row(group: &Group) -> Vec<String> {
    let [theirs, generic] = counts(group.count.as_ref());
    vec![
        group.taste.clone(),
        group.people.to_string(),
        group.preferences.to_string(),
        interval(group.before),
        interval(group.after),
        interval(group.after_against_first),
        theirs,
        generic,
    ]
}

fn interval(rate: Option<Rate>) -> String {
    rate.map_or("-".to_owned(), |rate| {
        format!("{:.2} [{:.2}, {:.2}]", rate.mean, rate.low, rate.high)
    })
}

/// What the taste counts, before -> after, in the people's answers and in generic ones.
fn counts(count: Option<&Count>) -> [String; 2] {
    let Some(count) = count else {
        return ["-".to_owned(), "-".to_owned()];
    };
    let show = |value: Option<f64>| value.map_or("-".to_owned(), short);
    let change = |before, after| format!("{} -> {} {}", show(before), show(after), count.unit);
    [
        change(count.before, count.after),
        change(count.generic_before, count.generic_after),
    ]
}

/// Writing to a `String` cannot fail, hence the dropped results.
fn notes(report: &LearnReport, text: &mut String) {
    let lessons = &report.lessons;
    let _ = writeln!(
        text,
        "Chats: {} with two answers in {:.0} s, {} ties, {} preferences sent.",
        lessons.chats, lessons.seconds, lessons.ties, lessons.preferences
    );
    let (before, after) = (versions(&report.before), versions(&report.after));
    let _ = writeln!(
        text,
        "Adapter version: before {before}, after {after} (turn by {}, {:.0} s).",
        report.turn.by, report.turn.seconds
    );
    if report
        .before
        .versions
        .keys()
        .eq(report.after.versions.keys())
    {
        text.push_str("The version did not change: before and after measure the same one.\n");
    }
    for (stage, name) in [(&report.before, "before"), (&report.after, "after")] {
        if stage.versions.len() > 1 {
            let _ = writeln!(text, "Exam {name}: more than one version answered.");
        }
        errors(&format!("exam {name}"), &stage.errors, text);
    }
    errors("chats", &lessons.chat_errors, text);
    errors("preferences", &lessons.preference_errors, text);
}

/// The first digits are enough to tell versions apart; the JSON has all.
fn versions(stage: &Stage) -> String {
    let digits = |name: &String| name.chars().take(12).collect::<String>();
    let names: Vec<String> = stage.versions.keys().map(digits).collect();
    names.join(", ")
}

fn errors(what: &str, errors: &BTreeMap<String, Errors>, text: &mut String) {
    for (kind, errors) in errors {
        let _ = writeln!(
            text,
            "{what}: {} x {kind}: {}",
            errors.count, errors.example
        );
    }
}

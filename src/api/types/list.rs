//! Lists in pages, and what asks for one.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::error::ApiError;
use crate::api::fields::{self, Parsed};
use crate::app::preferences::{Listed, Page};
use attune_ids::RecordId;

/// Records of a page.
const MAX_LIMIT: usize = 100;
const DEFAULT_LIMIT: usize = 20;

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct List<T> {
    /// Always `list`.
    pub object: &'static str,
    /// The records.
    pub data: Vec<T>,
    /// The id of the first of them; empty where there is none.
    pub first_id: String,
    /// `after` of the next page: the id of the last of them, or a later one where more was looked at.
    pub last_id: String,
    /// Whether there may be more: a page also ends after 8 MiB, and after much that it does not show.
    pub has_more: bool,
}

impl<T> List<T> {
    /// A page of what was found.
    pub fn new<R>(found: Listed<R>, id: impl Fn(&R) -> String, show: impl Fn(R) -> T) -> Self {
        let last = found.records.last().map_or_else(String::new, &id);
        Self {
            object: "list",
            first_id: found.records.first().map_or_else(String::new, &id),
            has_more: found.more.is_some(),
            // A page may end behind records that it does not show.
            last_id: found.more.map_or(last, String::from),
            data: found.records.into_iter().map(show).collect(),
        }
    }
}

/// The parameters of a URL that nobody took yet.
#[derive(Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// All of them, decoded.
    pub fn new(parameters: Vec<(String, String)>) -> Self {
        Self(parameters)
    }

    /// Takes a parameter.
    ///
    /// # Errors
    /// It is given twice.
    pub fn take(&mut self, name: &str) -> Parsed<Option<String>> {
        let mut found = None;
        while let Some(at) = self.0.iter().position(|(n, _)| n == name) {
            let (_, value) = self.0.remove(at);
            if found.replace(value).is_some() {
                let message = format!("the parameter '{name}' is given twice; give it once");
                return Err(ApiError::invalid("invalid_value", name, message));
            }
        }
        Ok(found)
    }

    /// Takes the parameters `name[key]=value`.
    pub fn take_pairs(&mut self, name: &str) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        self.0.retain(|(parameter, value)| {
            let key = parameter
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('['))
                .and_then(|rest| rest.strip_suffix(']'));
            pairs.extend(key.map(|key| (key.to_owned(), value.clone())));
            key.is_none()
        });
        pairs
    }

    /// Takes `after`, `limit` and `order`.
    ///
    /// # Errors
    /// A value that is none of theirs.
    pub fn page(&mut self) -> Parsed<Page> {
        let after = self.take("after")?.map(RecordId::new).transpose();
        let after =
            after.map_err(|e| ApiError::invalid("invalid_value", "after", e.to_string()))?;
        let limit = match self.take("limit")? {
            None => DEFAULT_LIMIT,
            Some(text) => {
                let value = text.parse::<i64>().map_or(Value::String(text), Value::from);
                let limit = fields::integer(&value, "limit", 1..=MAX_LIMIT as i64)?;
                usize::try_from(limit).unwrap_or(DEFAULT_LIMIT)
            }
        };
        let newest_first = match self.take("order")?.as_deref() {
            None | Some("asc") => false,
            Some("desc") => true,
            Some(_) => {
                let message = "'order' must be asc or desc";
                return Err(ApiError::invalid("invalid_value", "order", message));
            }
        };
        Ok(Page {
            after,
            limit,
            newest_first,
        })
    }

    /// Refuses what nobody took.
    ///
    /// # Errors
    /// The first of it.
    pub fn finish(self) -> Parsed<()> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(64).collect();
                Err(fields::unsupported_parameter(&name))
            }
        }
    }
}

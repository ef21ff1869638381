//! One JSON array of objects, read one at a time.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::bounded::{Bounded, Budget};
use super::error::{DatasetError, Problem};
use super::json_lines::object;
use super::nan::WithoutNan;
use super::room::{io_error, MAX_RECORD_BYTES};
use super::sink::Sink;
use super::source::{Place, Source};

/// Reads the array in `opened`, which is `file`.
///
/// # Errors
/// No array, text in it that is no JSON or too long; what `sink` says, also of elements that are no records.
pub(super) fn read(
    file: &Arc<Path>,
    opened: File,
    sink: &mut dyn Sink,
) -> Result<(), DatasetError> {
    let budget = Budget::new(MAX_RECORD_BYTES);
    let mut reader = BufReader::new(Bounded::new(opened, budget.clone()));
    let start = reader.fill_buf().map_err(|e| io_error(file, e))?;
    if start.is_empty() {
        let file = file.to_path_buf();
        return Err(DatasetError::Empty { file });
    }
    if start.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    let mut records = Records {
        file,
        budget: &budget,
        sink,
        row: 0,
        refused: None,
    };
    let plain = BufReader::new(WithoutNan::new(reader));
    let mut deserializer = serde_json::Deserializer::from_reader(plain);
    let result = (&mut records)
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    let Err(error) = result else {
        return Ok(());
    };
    if let Some(refused) = records.refused.take() {
        return Err(refused);
    }
    let problem = if budget.is_spent() {
        let max = MAX_RECORD_BYTES;
        Problem::RecordTooLong { max }
    } else if error.to_string().contains("unicode code point") {
        Problem::NotUtf8
    } else {
        let message = error.to_string();
        Problem::Json { message }
    };
    Err(problem.at(&records.here()))
}

/// Where records go.
struct Records<'a> {
    file: &'a Arc<Path>,
    budget: &'a Budget,
    sink: &'a mut dyn Sink,
    /// Records that are done.
    row: u64,
    /// Why the intake stopped: the parser's errors cannot carry it.
    refused: Option<DatasetError>,
}

impl Records<'_> {
    /// The record after those that are done.
    fn here(&self) -> Source {
        Source {
            file: self.file.clone(),
            place: Place::Row(self.row + 1),
        }
    }
}

impl<'de> DeserializeSeed<'de> for &mut Records<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Records<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while let Some(element) = array.next_element::<Box<RawValue>>()? {
            self.budget.renew();
            let at = self.here();
            let taken = match object(element.get()) {
                Ok(object) => self.sink.record(&at, object),
                Err(problem) => self.sink.unusable(&at, problem),
            };
            if let Err(error) = taken {
                self.refused = Some(error);
                return Err(A::Error::custom("refused"));
            }
            self.row += 1;
        }
        Ok(())
    }
}

//! Bodies as they arrive: of which type, packed how, and how much of it.

use std::io::Read;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{header, HeaderMap};
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt;

use super::error::ApiError;

/// A body that was read to its end and is not unpacked yet.
#[derive(Debug)]
pub struct PackedBody {
    bytes: Vec<u8>,
    packing: Packing,
    /// Bytes that it may have, packed and unpacked.
    limit: usize,
}

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// RFC 1952.
    Gzip,
}

impl Packing {
    /// What the header `Content-Encoding` says.
    ///
    /// # Errors
    /// 415: anything but gzip, or more than one thing.
    pub fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut words = Vec::new();
        for value in headers.get_all(header::CONTENT_ENCODING) {
            // What no text can be is no encoding that anybody knows.
            let text = value.to_str().unwrap_or("?");
            words.extend(text.split(',').map(|word| word.trim().to_ascii_lowercase()));
        }
        words.retain(|word| !word.is_empty() && word != "identity");
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => Ok(Self::Plain),
            ["gzip" | "x-gzip"] => Ok(Self::Gzip),
            _ => Err(ApiError::content_encoding()),
        }
    }
}

impl PackedBody {
    /// Reads `body` to its end.
    ///
    /// # Errors
    /// More than `limit` bytes, or a connection that breaks off.
    pub async fn read(body: Body, packing: Packing, limit: usize) -> Result<Self, ApiError> {
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > limit {
            return Err(ApiError::too_large(limit));
        }
        let mut bytes = Vec::with_capacity(announced);
        let mut stream = body.into_data_stream();
        while let Some(part) = stream.next().await {
            let part: Bytes =
                part.map_err(|_| ApiError::malformed_body("the body broke off".to_owned()))?;
            if bytes.len() + part.len() > limit {
                return Err(ApiError::too_large(limit));
            }
            bytes.extend_from_slice(&part);
        }
        Ok(Self {
            bytes,
            packing,
            limit,
        })
    }

    /// Bytes that it has at most, unpacked.
    pub fn most(&self) -> usize {
        match self.packing {
            Packing::Plain => self.bytes.len(),
            Packing::Gzip => self.limit,
        }
    }

    /// Its bytes. Blocks for as long as that takes to compute.
    ///
    /// # Errors
    /// It is not packed as it says, or too large.
    pub fn unpack(self) -> Result<Vec<u8>, ApiError> {
        if self.packing == Packing::Plain {
            return Ok(self.bytes);
        }
        let mut unpacked = Vec::new();
        // One more than there may be: so it shows that there is more.
        let most = u64::try_from(self.limit)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        let mut reader = MultiGzDecoder::new(&*self.bytes).take(most);
        let read = reader.read_to_end(&mut unpacked).map_err(|_| {
            ApiError::malformed_body("the body is not gzip, which its Content-Encoding says it is")
        })?;
        if read > self.limit {
            return Err(ApiError::too_large(self.limit));
        }
        Ok(unpacked)
    }
}

/// Whether the header `Content-Type` says JSON.
pub fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok());
    let essence = value
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    essence == "application/json"
        || essence.starts_with("application/") && essence.ends_with("+json")
}

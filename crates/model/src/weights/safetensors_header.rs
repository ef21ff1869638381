//! Checks a safetensors header against the length of its file.
//!
//! The crate adds offsets up unchecked before it compares them with the file's length, which a
//! hostile header can overflow.

use std::collections::HashMap;
use std::io::Read;

use serde::Deserialize;

#[derive(Deserialize)]
struct Entry {
    data_offsets: Option<(u64, u64)>,
}

/// Reads the header of a file of `length` bytes; nothing larger than the file is allocated.
///
/// # Errors
/// What is wrong, for people.
pub fn check(file: &mut impl Read, length: u64) -> Result<(), String> {
    let mut header_len = [0; 8];
    let short = |_| "it ends within its first 8 bytes".to_owned();
    file.read_exact(&mut header_len).map_err(short)?;
    let (header_len, left) = (u64::from_le_bytes(header_len), length.saturating_sub(8));
    if header_len > left {
        return Err(format!(
            "its header claims {header_len} bytes, {left} follow"
        ));
    }
    let mut header = Vec::new();
    file.take(header_len)
        .read_to_end(&mut header)
        .map_err(|e| e.to_string())?;
    let entries: HashMap<String, Entry> =
        serde_json::from_slice(&header).map_err(|e| format!("its header: {e}"))?;
    let data_len = left - header_len;
    for (name, entry) in entries {
        if let Some((_, end)) = entry.data_offsets.filter(|(_, end)| *end > data_len) {
            return Err(format!(
                "{name} ends at byte {end} of the data, which has {data_len}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn checked(bytes: &[u8]) -> Result<(), String> {
        check(&mut &bytes[..], bytes.len() as u64)
    }

    #[test]
    fn offsets_must_lie_in_the_file() {
        let header =
            |end: u64| format!(r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":[0,{end}]}}}}"#);
        checked(&file(&header(4), 4)).unwrap();
        assert!(checked(&file(&header(4), 3))
            .unwrap_err()
            .contains("ends at byte 4"));
        assert!(checked(&file(&header(u64::MAX), 4)).is_err());
        assert!(checked(&file("{", 4)).unwrap_err().contains("header"));
        assert!(checked(&[1, 2]).unwrap_err().contains("first 8 bytes"));
        assert!(checked(&u64::MAX.to_le_bytes())
            .unwrap_err()
            .contains("claims"));
    }
}
